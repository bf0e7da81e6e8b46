"""The batcher: takes predictions in every protocol, joins them into batches, and gives every caller exactly its rows.

It is an application inside an Envoy, its own or the gateway's (`bridge`). It is not where versions are chosen (the
gateway does that) nor where models run (Triton does). Its one invariant: every request that was accepted is answered
exactly once, with its own rows or with its own error.
"""
