"""Between protobuf and domain forms: versions and models, changes to them, artifacts, plain values."""
