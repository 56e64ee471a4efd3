"""Duplicates, leaks between splits and doubtful labels."""
