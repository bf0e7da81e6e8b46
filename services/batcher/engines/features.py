"""Adds features of feature stores to instances, within some milliseconds and whatever the stores do.

Rows are kept in memory. What several requests of one turn of the event loop miss is read together, and whoever misses a
row that is already on its way waits for that one. A read that is late is given up by those who wait, and its rows are
kept all the same when they come: a store that is a little too slow serves the next request.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from services.batcher.domain.feature_views import CheckedRow, Lookup
from services.batcher.domain.features import JoinPlan, Outcomes
from services.batcher.domain.instances import Row
from services.batcher.domain.lru import ByteLru
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.feature_ports import FeatureStore, Read
from services.common.clock import Clock
from services.common.feature_view import FeatureStoreKind

RETRIEVAL_BOUNDS_MS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)
"""Upper bounds of the retrieval's time, inclusive."""
_LATE_S = 0.001
"""A timer that is this late says that this process was busy, and nothing of the store."""
_ROW_BYTES = 400
_BYTES_PER_STORED_BYTE = 6
"""What Python needs for a value, about, per byte of its JSON."""
_NOT_CONFIGURED = {
    FeatureStoreKind.REDIS: "is not configured: the operator sets INFERMESH_BATCHER_REDIS_URL",
    FeatureStoreKind.FEAST: "is not configured: the operator sets INFERMESH_BATCHER_FEAST_URL",
}


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """Bounds."""

    deadline_s: float = 0.010
    """The longest that a request waits for a store."""
    deadline_per_row_s: float = 0.000_1
    """How much longer for each row that is read together with others."""
    ttl_s: float = 300.0
    """How long a row is kept. 0: not at all."""
    gap_ttl_s: float = 1.0
    """How long it is remembered that a row, or a feature of it, is nowhere or too old."""
    bytes_max: int = 64 * 1024 * 1024
    """Memory for rows; one takes at least 400 bytes, so this bounds their number too."""
    waiting_max: int = 65_536
    """Rows that may be on their way; beyond it a request does not wait for a store."""


@dataclass(slots=True)
class ViewCounts:
    """Of one view of one version, since the start. They only grow."""

    hits: int = 0
    """Rows found in memory."""
    fetched: int = 0
    """Rows that a store gave."""
    absent: int = 0
    """Rows that a store has not."""
    unanswered: int = 0
    """Rows that no store answered for in time."""
    defaults: int = 0
    """Features that took their default."""
    missing: int = 0
    """Features that were nowhere: their requests were refused."""


@dataclass(slots=True)
class RetrievalTimes:
    """How long requests of one version waited for their features, those included that waited for nothing."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(RETRIEVAL_BOUNDS_MS) + 1))
    sum_ms: float = 0.0


class _Flight:
    """Rows that are read together."""

    __slots__ = ("done", "lookups", "rows", "store", "timer", "why_not")

    def __init__(self, store: FeatureStoreKind, done: "asyncio.Future[None]") -> None:
        self.store = store
        self.done = done
        self.lookups: dict[tuple[str, str], Lookup] = {}
        self.rows: dict[tuple[str, str], CheckedRow] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.why_not = ""


class Features:
    """Joins features. Belongs to the loop that carries the requests."""

    def __init__(
        self, *, stores: Mapping[FeatureStoreKind, FeatureStore], clock: Clock, options: FeatureOptions | None = None
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._options = options or FeatureOptions()
        self._boarding: dict[FeatureStoreKind, _Flight] = {}
        self._flying: dict[tuple[str, str], _Flight] = {}
        self.memory: ByteLru[tuple[str, str], CheckedRow] = ByteLru(bytes_max=self._options.bytes_max)
        self.counts: dict[tuple[str, str, str], ViewCounts] = {}
        """By model, version and view."""
        self.times: dict[tuple[str, str], RetrievalTimes] = {}
        """By model and version."""

    @property
    def waiting(self) -> int:
        """Rows on their way."""
        return len(self._flying)

    async def join(self, plan: JoinPlan, rows: Sequence[Row], *, prefix: str = "instances") -> list[Row]:
        """The instances with all their features; those given are not changed. What is in memory comes without a turn of
        the loop. Raises SCHEMA_VIOLATION, FEATURE_MISSING or FEATURE_STORE_UNAVAILABLE. Cancelling is free at any time.
        """
        began_s = self._clock.monotonic()
        lookups = plan.lookups(rows, prefix=prefix)
        outcomes, served = Outcomes(), plan.served
        found: dict[tuple[str, str], CheckedRow] = {}
        why_not = await self._find(served, lookups, found, began_s) if lookups else ""
        try:
            return plan.joined(
                rows,
                lookups,
                found,
                now_s=self._clock.now().timestamp(),
                why_not=why_not,
                outcomes=outcomes,
                prefix=prefix,
            )
        finally:
            if lookups:
                self._account(served.model_name, served.version, outcomes, began_s)

    async def _find(
        self,
        served: ServedVersion,
        lookups: Sequence[Lookup],
        found: dict[tuple[str, str], CheckedRow],
        now_s: float,
    ) -> str:
        """Puts rows into `found`; why there are fewer than wanted."""
        waiting: dict[tuple[str, str], tuple[_Flight, ViewCounts]] = {}
        why_not = ""
        for lookup in lookups:
            key = lookup.key
            if key in found or key in waiting:
                continue
            counts = self._counts(served.model_name, served.version, lookup.view.name)
            kept = self.memory.get(key, now_s)
            if kept is not None:
                counts.hits += 1
                found[key] = kept
            elif (flight := self._flight(key, lookup)) is not None:
                waiting[key] = (flight, counts)
            else:
                counts.unanswered += 1
                why_not = f"has {len(self._flying)} rows to give already"
        for key, (flight, counts) in waiting.items():
            if not flight.done.done():
                # Others wait for it too: whoever leaves must not take it along.
                await asyncio.shield(flight.done)
            row = flight.rows.get(key)
            if row is None:
                counts.unanswered += 1
                why_not = flight.why_not
                continue
            found[key] = row
            if row.values or row.faults:
                counts.fetched += 1
            else:
                counts.absent += 1
        return why_not

    def _flight(self, key: tuple[str, str], lookup: Lookup) -> _Flight | None:
        """The read that brings the row, a new one where none does; None where too many wait."""
        flight = self._flying.get(key)
        if flight is not None:
            return flight
        if len(self._flying) >= self._options.waiting_max:
            return None
        store = lookup.view.store
        flight = self._boarding.get(store)
        if flight is None:
            loop = asyncio.get_running_loop()
            flight = self._boarding[store] = _Flight(store, loop.create_future())
            loop.call_soon(self._depart, flight)
        flight.lookups[key] = lookup
        self._flying[key] = flight
        return flight

    def _depart(self, flight: _Flight) -> None:
        del self._boarding[flight.store]
        store = self._stores.get(flight.store)
        flight.why_not = _NOT_CONFIGURED[flight.store] if store is None else store.problem
        if store is None or flight.why_not:
            self._end(flight)
            return
        options = self._options
        lookups = list(flight.lookups.values())
        limit_s = options.deadline_s + options.deadline_per_row_s * (len(lookups) - 1)
        due_s = self._clock.monotonic() + limit_s
        loop = asyncio.get_running_loop()
        flight.timer = loop.call_later(limit_s, self._late, flight, due_s, limit_s)
        store.read(lookups).add_done_callback(partial(self._landed, flight))

    def _late(self, flight: _Flight, due_s: float, limit_s: float) -> None:
        if self._clock.monotonic() - due_s > _LATE_S:
            # The answer may be here already, and only this process too busy to have looked.
            flight.timer = asyncio.get_running_loop().call_later(_LATE_S, self._give_up, flight, limit_s)
        else:
            self._give_up(flight, limit_s)

    def _give_up(self, flight: _Flight, limit_s: float) -> None:
        flight.why_not = f"did not answer within {limit_s * 1000:.0f} ms"
        self._end(flight)

    def _landed(self, flight: _Flight, read: Read) -> None:
        rows = None if read.cancelled() else read.result()
        if rows is None:
            flight.why_not = flight.why_not or "did not answer"
        else:
            now_s, now = self._clock.monotonic(), self._clock.now().timestamp()
            for (key, lookup), row in zip(flight.lookups.items(), rows, strict=True):
                checked = flight.rows[key] = lookup.view.checked(row)
                size = _ROW_BYTES + _BYTES_PER_STORED_BYTE * (row.size_bytes if row is not None else 0)
                self._keep(key, lookup, checked, size_bytes=size, now_s=now_s, now=now)
        self._end(flight)

    def _keep(
        self, key: tuple[str, str], lookup: Lookup, row: CheckedRow, *, size_bytes: int, now_s: float, now: float
    ) -> None:
        """Until the row is too old, for a moment only where something is wanting: it may be written any time."""
        options = self._options
        left_s = lookup.view.usable_until_s(row) - now
        whole = left_s > 0 and len(row.values) == len(lookup.view.features)
        ttl_s = min(options.ttl_s, left_s if whole else options.gap_ttl_s)
        if ttl_s > 0:
            self.memory.put(key, row, size_bytes=size_bytes, expires_s=now_s + ttl_s)

    def _end(self, flight: _Flight) -> None:
        """Nobody waits for it any longer."""
        if flight.timer is not None:
            flight.timer.cancel()
        if flight.done.done():
            return
        for key in flight.lookups:
            del self._flying[key]
        flight.done.set_result(None)

    def _counts(self, model: str, version: str, view: str) -> ViewCounts:
        counts = self.counts.get((model, version, view))
        if counts is None:
            counts = self.counts[model, version, view] = ViewCounts()
        return counts

    def _account(self, model: str, version: str, outcomes: Outcomes, began_s: float) -> None:
        for view, count in outcomes.defaults.items():
            self._counts(model, version, view).defaults += count
        for view, count in outcomes.missing.items():
            self._counts(model, version, view).missing += count
        times = self.times.get((model, version))
        if times is None:
            times = self.times[model, version] = RetrievalTimes()
        took_ms = (self._clock.monotonic() - began_s) * 1000
        times.counts[bisect_left(RETRIEVAL_BOUNDS_MS, took_ms)] += 1
        times.sum_ms += took_ms
