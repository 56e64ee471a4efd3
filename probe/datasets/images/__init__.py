"""Images as files, bytes and arrays: found, decoded, and identified by their content."""
