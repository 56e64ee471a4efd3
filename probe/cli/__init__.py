"""The command line: one file a command; parse, call, print. Nothing else prints."""
