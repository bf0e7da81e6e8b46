"""Between protobuf and the monitor's values."""
