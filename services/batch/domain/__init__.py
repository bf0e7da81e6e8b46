"""Pure decisions about jobs, rows and columns."""
