"""The real parts of a local mesh: for each, how to prepare it, how to start it, and when it is really ready."""
