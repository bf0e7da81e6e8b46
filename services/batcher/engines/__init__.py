"""What the batcher does over time: queues, batches on their way, servers that come and go."""
