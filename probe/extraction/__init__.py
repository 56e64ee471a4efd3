"""Run a frozen backbone over a dataset once, and find its features again."""
