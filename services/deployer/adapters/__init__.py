"""The deployer's ports over real things: PostgreSQL, Triton, the model repository, the registry, the router."""
