"""The batcher's decisions: pure, no I/O, no protobuf, no tasks."""
