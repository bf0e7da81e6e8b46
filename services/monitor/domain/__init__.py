"""What the monitor decides, without I/O: how requests add up, what windows are, which partitions exist."""
