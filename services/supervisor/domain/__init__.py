"""What the supervisor decides, as pure functions."""
