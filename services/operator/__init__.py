"""The operator: model deployments and A/B tests as objects of a Kubernetes cluster.

It makes of a ModelDeployment all that the cluster needs to run it, and keeps that so; of an ABTest it has the router
make a test. It is not on the path of a prediction, and decides no traffic: who routes follows the EndpointSlices of
what it makes.

Its one invariant: a replica that answers goes only once another answers in its place, or nothing is sent to it any
more.
"""
