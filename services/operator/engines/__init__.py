"""What the operator does, over its ports and a clock."""
