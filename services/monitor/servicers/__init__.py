"""The monitor's gRPC faces: they translate and decide nothing."""
