"""The monitor: what the models do, counted.

It takes the prediction log of the batchers, keeps aggregates per model, version, deployment and minute in PostgreSQL
and answers from them. It is not on the path of a prediction: dead or slow, it costs the log, never an answer.

Its one invariant: a chunk of the log that was acknowledged is counted exactly once, whatever dies or reconnects.
"""
