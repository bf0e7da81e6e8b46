"""What the services that speak to Kubernetes share: the API server, objects as it sends them, names and labels."""
