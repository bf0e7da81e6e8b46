"""Redis and the registry."""
