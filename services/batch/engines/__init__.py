"""What the service does: answers calls about jobs, and runs them."""
