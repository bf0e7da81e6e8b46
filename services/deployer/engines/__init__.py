"""Asynchronous orchestration over ports and a clock."""
