"""The router's decisions: pure, no I/O, no protobuf, no tasks."""
