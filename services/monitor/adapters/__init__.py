"""The monitor's ports over real things: PostgreSQL, this host, Prometheus."""
