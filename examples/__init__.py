"""Worked examples on real data, each started by its own module."""
