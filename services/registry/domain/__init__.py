"""Decisions about models, versions and their schemas: pure values and functions."""
