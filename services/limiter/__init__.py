"""The limiter: how fast a team or a key may call, over all gateways together.

Gateways hold each caller to its limit by buckets of their own; where there are several, each would let the whole limit
through. They ask the limiter about callers with a limit (Envoy's rate limit service protocol), and it counts in Redis.
It is no part of a mesh with one gateway, whose own buckets are exact.

Its one invariant: whatever fails, callers are let through and not held up for longer than a tenth of a second.
"""
