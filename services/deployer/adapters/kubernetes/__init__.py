"""Kubernetes clusters, over their API servers."""
