"""Which requests are kept one by one: chosen by their ids alone, so that every part of the mesh keeps the same ones."""

import zlib

_RANGE = 2**32


def threshold_of(share: float) -> float:
    """What `sampled` compares with, for a share from 0 to 1."""
    return share * _RANGE


def sampled(request_id: str, threshold: float) -> bool:
    """Whether the request of that id is among them."""
    return zlib.crc32(request_id.encode()) < threshold
