"""A worker as a process of its own: it does chunks of jobs that a batch service gives it."""
