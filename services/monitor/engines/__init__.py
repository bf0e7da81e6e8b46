"""What the monitor does, over its ports: take the log, answer for it, look at the host, keep the partitions."""
