"""Two versions of a small classifier, of which the new one misbehaves on demand.

To rehearse canaries, shadows, A/B tests and rollbacks before one needs them.
"""
