"""Architectures: what there is (`catalog`), and how to build and cut them (`network`)."""
