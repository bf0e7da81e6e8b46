"""Where a sticky key goes: the function that gateways compute, said again so that it can be asked for.

A key has one of a hundred places, which depends on the model and on nothing else, and a version holds some of the
places. So a key keeps its version on every gateway and after every restart, and moves only when its place is given to
another version.
"""

from collections.abc import Sequence

import xxhash

from services.router.domain.routing import Share

PLACES = 100
"""One for each percent of a model's traffic."""

_WORD = (1 << 64) - 1


def place_of(model_name: str, key: str, *more: str) -> int:
    """The place, 0 to 99, of the key that the sticky header holds, for this model. `more`: the other values of a
    request that repeats the header, whose order does not count.

    The model's name counts as well, so that those who are first to get a new version of one model are not the first for
    all others. Envoy hashes each header with xxHash64, of several values each with the hash of the one before it as
    its seed, in ascending order; it joins the two headers' hashes by turning the first one's bits by one and exclusive
    or (`HashPolicyImpl` of its 1.39).
    """
    hashed = 0
    for value in sorted((key.encode(), *(one.encode() for one in more))):
        hashed = xxhash.xxh64_intdigest(value, hashed)
    turned = (hashed << 1 | hashed >> 63) & _WORD
    return (turned ^ xxhash.xxh64_intdigest(model_name.encode())) % PLACES


def version_at(shares: Sequence[Share], place: int) -> str:
    """The version that holds a place. `shares` add up to 100, see `ModelRoutes.shares`; `place` is 0 to 99."""
    end = 0
    for share in shares:
        end += share.percent
        if place < end:
            return share.version
    raise ValueError(f"no share reaches place {place}; they add up to {end}")
