"""When a batch leaves: pure functions of what waits, what runs and what time it is.

A policy says until when it would like to wait for more requests; `departure_s` holds every policy to the promises
that hold whatever it wishes: a full batch leaves at once, nobody waits for others longer than the version allows, and
versions that do not batch never wait. Waiting for a free backend is not waiting for others: it ends when one is free.
"""

from math import inf
from typing import Protocol

from services.batcher.domain.serving import Batching

NEVER = inf
"""A moment that does not come by itself."""


class Policy(Protocol):
    """How long to wait for more. One for each version; it may learn."""

    def leave_at_s(self, *, rows: int, oldest_s: float, in_flight: int, now_s: float) -> float:
        """The moment at which `rows` waiting rows should leave if no more come. A backend has room now; `in_flight`
        batches of the version are on their way."""
        ...

    def observe(self, *, rows: int, seconds: float) -> None:
        """A batch of `rows` rows took `seconds` from its departure to its answer."""
        ...


class WorkConserving:
    """Never lets a backend idle while something waits. While all are busy batches grow by themselves, so their size
    follows the load: one row when it is quiet, whatever came in the meantime when it is not."""

    def leave_at_s(self, *, rows: int, oldest_s: float, in_flight: int, now_s: float) -> float:  # noqa: ARG002
        """Now."""
        return now_s

    def observe(self, *, rows: int, seconds: float) -> None:
        """Learns nothing."""


def departure_s(
    policy: Policy, batching: Batching, *, rows: int, oldest_s: float, in_flight: int, now_s: float
) -> float:
    """When `rows` waiting rows leave, given that a backend has room: `now_s`, or a later moment to look again."""
    if not rows:
        return NEVER
    if not batching.enabled or rows >= batching.max_batch_size:
        return now_s
    wished_s = policy.leave_at_s(rows=rows, oldest_s=oldest_s, in_flight=in_flight, now_s=now_s)
    latest_s = oldest_s + batching.batch_timeout_ms / 1000
    return max(now_s, min(wished_s, latest_s))


def rows_max_of(batching: Batching) -> int:
    """The most rows in one batch."""
    return max(1, batching.max_batch_size)
