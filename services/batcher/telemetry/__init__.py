"""What the batcher says about itself: counts on the hot path, Prometheus families when somebody scrapes, traces."""
