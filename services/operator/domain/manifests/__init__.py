"""The manifests of what is made, as pure functions of the wish, the version and the cluster."""
