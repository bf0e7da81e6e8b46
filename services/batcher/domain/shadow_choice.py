"""Which requests are copied to a model's shadow versions.

A function of the request's id alone: every shadow version, on every batcher, gets the same requests, and one that gets
more of them gets those of one that gets fewer. So reports about several versions compare like with like.
"""

import xxhash

_SEED = 0x5AD0
"""Of its own, so that the choice says nothing about how ids may be used elsewhere."""
_PLACES = 100


def place_of(request_id: str) -> int:
    """0 to 99: the request goes to all shadow versions of which a larger percentage is copied."""
    return xxhash.xxh3_64_intdigest(request_id.encode(), _SEED) % _PLACES
