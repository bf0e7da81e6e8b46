"""The deployer: makes registered versions answer, and keeps them answering.

What is wished stands in PostgreSQL, a level-triggered loop brings it about on model servers that others start, and what
answers is published for the router. It is not on the path of a prediction, starts no model server itself, and decides
no traffic.

Its one invariant: what is published has answered a trial prediction on the servers that are named, and is withdrawn
before it is unloaded.
"""
