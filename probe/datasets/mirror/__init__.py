"""Copies of what lies behind URLs, fetched once and read like files of this machine."""
