"""Where the batcher meets others: the router's serving table, the monitor's log, the disk, model servers."""
