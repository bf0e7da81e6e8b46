"""What the tests share: real parts, clocks, waiting."""
