"""The memory of this machine, and what of it model servers may take."""

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from services.deployer.domain.catalog import Place

SHARE = 0.7
"""Of the machine's memory, for all model servers on it together."""
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_limits(places: Sequence[Place], stated_bytes: int) -> Mapping[str, float]:
    """What each server may take, by its name: `stated_bytes`, or where that is 0 its share of the machine that it is
    on, if that is this one. Those that are not named have no limit."""
    if stated_bytes:
        return {place.server_id: float(stated_bytes) for place in places}
    here = [place.server_id for place in places if _is_here(place.http_address)]
    return dict.fromkeys(here, SHARE * memory_bytes() / max(1, len(here)))


def memory_bytes(container_limit: Path = _CONTAINER_LIMIT) -> float:
    """What there is: of the machine, or of the container that this runs in, if that may have less."""
    total = float(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        total = min(total, float(container_limit.read_text()))
    return total


def _is_here(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
