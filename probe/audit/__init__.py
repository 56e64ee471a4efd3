"""Audit a dataset by its cached features: copies, leaks between splits, doubtful labels."""
