"""One way to serve gRPC and one way to call it: health, reflection, deadlines, errors, identity, telemetry included."""
