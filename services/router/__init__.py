"""The router: decides what share of a model's traffic each version gets, and tells batchers and gateways.

It is Envoy's control plane and is never on the path of a prediction: with the router dead, gateways and batchers go on
with what they were told last. Its one invariant: a version that a route names is known to every connected batcher.
"""
