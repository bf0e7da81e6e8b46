"""Following what the mesh does not stream: read again and again, tell what changed, endure short outages."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Pacer

PERIOD_S = 2.0
"""The time between two looks where nothing else is said."""
OUTAGE_TIMEOUT_S = 60.0
"""How long what is followed may be out of reach before following fails."""

ItemT = TypeVar("ItemT")


def followed(
    read: Callable[[float], ItemT],
    *,
    ended: Callable[[ItemT], bool],
    what: str,
    timeout_s: float,
    period_s: float = PERIOD_S,
    outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[ItemT]:
    """What `read` gives, then whenever it differs from before, until it has `ended`; the last one has.

    `read` gets the most seconds that it may take. Raises what the first look meets, at once; later an interruption only
    once it has lasted for `outage_timeout_s`. Raises DEADLINE_EXCEEDED where `what` has not ended after `timeout_s`.
    """
    deadline = monotonic() + timeout_s
    pacer: Pacer | None = None
    seen: ItemT | None = None
    while (left_s := deadline - monotonic()) > 0:
        try:
            now = read(left_s)
        except InfermeshError as error:
            pacer = pacer or Pacer(timeout_s=outage_timeout_s, monotonic=monotonic, sleep=sleep)
            if seen is None or not error.is_interruption or not pacer.pause():
                raise
            continue
        pacer = None
        if now != seen:
            seen = now
            yield now
        if ended(now):
            return
        sleep(max(0.0, min(period_s, deadline - monotonic())))
    raise InfermeshError(
        f"{what} has not ended within {timeout_s:g} s",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
        reason=grpc.StatusCode.DEADLINE_EXCEEDED.name,
        advice="It goes on; follow it again, or allow more time with --for.",
    )
