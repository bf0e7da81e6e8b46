"""The outside: PostgreSQL, files, the batcher, the registry."""
