"""What the limiter does."""
