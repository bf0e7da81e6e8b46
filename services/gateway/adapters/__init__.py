"""The router and the files."""
