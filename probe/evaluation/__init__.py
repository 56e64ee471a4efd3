"""Rows, splits, metrics, intervals and paired tests."""
