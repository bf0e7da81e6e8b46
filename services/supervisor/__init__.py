"""Runs the whole mesh on one machine: starts every part in order, watches it, stops it in reverse."""
