"""Files, records, digests and registries: what every room builds on."""
