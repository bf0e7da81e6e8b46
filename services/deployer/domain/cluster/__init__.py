"""Deployments in Kubernetes: the object that is the wish, the pods that answer, and what is to be done about both."""
