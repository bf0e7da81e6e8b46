"""What a process says about itself: structured logs, Prometheus metrics, OpenTelemetry traces."""
