"""When a batch leaves: the promises that hold whatever a policy wishes.

A policy says until when it would like to wait for more requests; `departure_s` holds every policy to this: a full batch
leaves at once, nobody waits for others longer than the version allows, and versions that do not batch never wait.
Waiting for a free backend is not waiting for others: it ends when one is free. The policy in use is `adaptive`.
"""

from math import inf
from typing import Protocol

from services.batcher.domain.serving import Batching

NEVER = inf
"""A moment that does not come by itself."""
_GRAIN_S = 0.0005
"""Timers of an event loop are no finer: looking again that soon would be looking again and again."""
_INSTANT_S = 1e-6


class GroupPolicy(Protocol):
    """How long requests that may share a batch wait for more."""

    def leave_at_s(self, *, rows: int, oldest_s: float, now_s: float) -> float:
        """The moment at which `rows` waiting rows, the first of which came at `oldest_s`, should leave if no more come.
        A backend has room now."""
        ...


def departure_s(
    policy: GroupPolicy,
    batching: Batching,
    *,
    rows: int,
    rows_max: int,
    oldest_s: float,
    now_s: float,
) -> float:
    """When `rows` waiting rows leave, given that a backend has room: `now_s`, or a later moment to look again.
    `rows_max`: as many fill a batch."""
    if not rows:
        return NEVER
    if not batching.enabled or rows >= rows_max:
        return now_s
    wished_s = policy.leave_at_s(rows=rows, oldest_s=oldest_s, now_s=now_s)
    latest_s = oldest_s + batching.batch_timeout_ms / 1000
    if wished_s <= now_s or latest_s <= now_s + _INSTANT_S:
        return now_s
    return min(max(wished_s, now_s + _GRAIN_S), latest_s)


def rows_max_of(batching: Batching) -> int:
    """The most rows in one batch."""
    return max(1, batching.max_batch_size)
