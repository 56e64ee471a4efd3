"""Fit a head on cached features and keep what came of it."""
