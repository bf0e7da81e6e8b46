"""What callers can have done: registering, reading, changing, over ports."""
