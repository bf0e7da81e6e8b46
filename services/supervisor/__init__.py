"""Runs the whole mesh on one machine: starts every part in order, watches it, stops it in reverse."""

import os

# Read when grpc is imported. Its fork handlers make one in five children that are started during calls crash before
# they become the program; ours become it at once and never use what they inherited of grpc.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
