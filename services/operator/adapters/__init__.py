"""The operator's ports, to the API server, the registry and the router."""
