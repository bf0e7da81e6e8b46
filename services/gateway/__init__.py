"""The gateway's keeper: what an Envoy was told last, on disk, so that it starts without its router.

It stands between the Envoy beside it and the router, passes on what the two say, and answers from the disk where the
router cannot be reached.
"""
