"""The registry: the one source of truth for which models and versions exist, and the keeper of their artifacts.

It does not know what is deployed, and it is not on the path of a prediction. Its invariant: a registered version never
changes, and its artifact lies whole and synced in the store before the row that names it is committed. So a row never
names bytes that are missing, whenever the process is killed.
"""
