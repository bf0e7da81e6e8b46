"""The gRPC faces."""
