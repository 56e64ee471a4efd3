"""The forms that a dataset may have on disk: folders, lists, archives, records, arrays."""
