"""Datasets with a name: the catalog, downloads, and readers of their official files."""
