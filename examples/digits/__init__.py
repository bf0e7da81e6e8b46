"""The digits example: two real versions of a classifier of handwritten digits, from training to answering.

`train.py` runs in the serving environment, which has the model frameworks, and writes files. `bootstrap.py` runs beside
the services and takes those files through the public API alone, as any user would.
"""
