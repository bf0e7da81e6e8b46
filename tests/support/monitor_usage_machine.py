"""Batchers, two monitors, a registry and a database that fail at any moment, and a naive recount: what was counted is
charged once, and each hour's storage once."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.common.errors import CATALOGUE, MeshError, Reason
from services.monitor.domain.faults import is_fault
from services.monitor.domain.records import Chunk, StreamKey
from services.monitor.domain.usage import HOUR_US, UsageKey, Used
from services.monitor.domain.usage_window import Hours, hour_of
from services.monitor.engines.live import Live
from services.monitor.engines.recorder import Recorder, Session
from services.monitor.engines.stream import RecorderLimits
from services.monitor.engines.usage_storage import StorageMeter
from services.monitor.ports import Applied, Batch, LogStore
from services.monitor.ports_usage import Metered, StorageStore, Stored, UsageQuery, UsageReader
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_log import group_of
from tests.support.monitor_stores import MemoryStore, SilentBoard
from tests.support.monitor_usage import MemoryStorage, MemoryStorageSource, MemoryUsageReader

T = TypeVar("T")
REASONS = ("", "SCHEMA_VIOLATION", "QUEUE_FULL", "MODEL_FAILED", "CALLER_CANCELLED", "FEATURE_MISSING")
"""Of a request; two of them are its caller's own doing."""
GPUS = 0.5
_STREAMS = st.sampled_from(["batcher-0", "batcher-1"])
_MONITORS = st.integers(0, 1)


@dataclass(frozen=True)
class Asked:
    """One finished request."""

    ago_us: int
    team: str
    rows: int
    latency_us: int
    compute_us: int
    kind: int
    reason: int


REQUESTS = st.builds(
    Asked,
    ago_us=st.integers(0, 3 * HOUR_US),
    team=st.sampled_from(["", "vision", "risk"]),
    rows=st.integers(0, 1000),
    latency_us=st.integers(0, 2**32 - 1),
    compute_us=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
    reason=st.sampled_from([0, 0, 0, *range(1, len(REASONS))]),
)


def reason_name(number: int) -> str:
    """Of a request that failed."""
    return REASONS[number]


class FlakyLogStore:
    """A `LogStore` whose writes fail as told, "before" or "after" they took hold."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self.fail_next: list[str] = []

    async def position(self, stream: StreamKey) -> int:
        """As it is."""
        return await self._store.position(stream)

    async def apply(self, batch: Batch) -> Applied:
        """Fails, or does it, or both."""
        failure = self.fail_next.pop(0) if self.fail_next else ""
        if failure == "before":
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the database is away")
        applied = await self._store.apply(batch)
        if failure == "after":
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the database is away")
        return applied


class Batcher:
    """One end of the log: keeps what is not acknowledged, and sends it again over the next connection."""

    def __init__(self, name: str) -> None:
        self.stream = StreamKey(name, 1)
        self.chunks: dict[int, tuple[int, list[Asked]]] = {}
        """When each was sent first, and what it says."""
        self.acknowledged = 0
        self.next_to_send = 1
        self.session: Session | None = None
        self.connected_to = 0

    async def connect(self, monitor: Recorder, which: int) -> None:
        """Goes on where the monitor says."""
        if self.session is not None:
            self.session.close()
        self.connected_to = which
        self.session = await monitor.open(self.stream)
        await self.hear(monitor)
        self.next_to_send = self.acknowledged + 1

    async def hear(self, monitor: Recorder) -> None:
        """What the connection has to say now."""
        assert self.session is not None
        try:
            async with aclosing(self.session.acknowledgements()) as acknowledgements, asyncio.timeout(0):
                self.acknowledged = max(self.acknowledged, await anext(acknowledgements))
        except TimeoutError:
            return
        except MeshError:
            await self.connect(monitor, self.connected_to)

    async def send(self, monitor: Recorder, now_us: int, requests: list[Asked]) -> None:
        """The next chunk: an old one where the connection was lost, else a new one."""
        sent_us, said = self.chunks.setdefault(self.next_to_send, (now_us, requests))
        group = group_of(
            [one.latency_us for one in said],
            times_us=[sent_us - one.ago_us for one in said],
            teams=[one.team for one in said] if any(one.team for one in said) else (),
            rows=[one.rows for one in said],
            kinds=[one.kind for one in said],
            reasons=[one.reason for one in said],
            codes=[int(CATALOGUE[Reason(REASONS[one.reason])]) if one.reason else 0 for one in said],
            compute_us=[one.compute_us for one in said],
            gpus=GPUS,
        )
        assert self.session is not None
        try:
            await self.session.take(Chunk(self.stream, self.next_to_send, 0, [group], 0))
        except MeshError:
            await self.connect(monitor, self.connected_to)
        else:
            self.next_to_send += 1


class UsageMachine(RuleBasedStateMachine):
    """Over stores in memory; `make_stores` says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.registry = MemoryStorageSource()
        self.known: dict[int, list[Stored]] = {}
        """The storage of hours that were looked at."""

    async def make_stores(self) -> tuple[LogStore, StorageStore, UsageReader]:
        """Empty ones."""
        log, storage = MemoryStore(), MemoryStorage()
        return log, storage, MemoryUsageReader(log, storage)

    async def close(self) -> None:
        """Lets go of the stores."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does it on the machine's loop."""
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        """Two monitors, and two batchers at the first."""
        log, self.storage, self.reader = self.run(self.make_stores())
        self.log = FlakyLogStore(log)
        self.monitors = [self._monitor(), self._monitor()]
        self.batchers = {name: Batcher(name) for name in ("batcher-0", "batcher-1")}
        for batcher in self.batchers.values():
            self.run(batcher.connect(self.monitors[0], 0))

    def _monitor(self) -> Recorder:
        return Recorder(
            store=self.log,
            live=Live(),
            board=SilentBoard(),
            clock=self.clock,
            reason_name=reason_name,
            limits=RecorderLimits(flush_period_s=1.0, cells_max=1000, rows_max=0, sample_rate=0.0),
        )

    @rule(name=_STREAMS, requests=st.lists(REQUESTS, min_size=1, max_size=5))
    def send(self, name: str, requests: list[Asked]) -> None:
        """Some requests, or once more those of before."""
        batcher = self.batchers[name]
        now_us = int(self.clock.now().timestamp() * 1_000_000)
        self.run(batcher.send(self.monitors[batcher.connected_to], now_us, requests))

    @rule(which=_MONITORS)
    def flush(self, which: int) -> None:
        """A monitor stores what waits."""
        self.run(self.monitors[which].flush())
        for batcher in self.batchers.values():
            if batcher.connected_to == which:
                self.run(batcher.hear(self.monitors[which]))

    @rule(failures=st.lists(st.sampled_from(["before", "after"]), min_size=1, max_size=3))
    def database_fails(self, failures: list[str]) -> None:
        """The next writes fail."""
        self.log.fail_next.extend(failures)

    @rule(name=_STREAMS, which=_MONITORS)
    def reconnect(self, name: str, which: int) -> None:
        """The connection is lost; the batcher goes to either monitor."""
        self.run(self.batchers[name].connect(self.monitors[which], which))

    @rule(which=_MONITORS)
    def kill(self, which: int) -> None:
        """A monitor dies with all that it had in memory and comes back empty."""
        self.monitors[which] = self._monitor()
        for batcher in self.batchers.values():
            if batcher.connected_to == which:
                self.run(batcher.connect(self.monitors[which], which))

    @rule(minutes=st.integers(1, 300))
    def time_passes(self, minutes: int) -> None:
        """Up to five hours."""
        self.clock.advance(60 * minutes)

    @rule(sizes=st.dictionaries(st.tuples(st.sampled_from(["", "vision"]), st.sampled_from("ab")), st.integers(0, 9)))
    def storage_changes(self, sizes: dict[tuple[str, str], int]) -> None:
        """Something was uploaded or deleted."""
        self.registry.held = [Stored(team, model, size) for (team, model), size in sizes.items()]

    @rule(away=st.booleans())
    def registry_goes_or_comes(self, away: bool) -> None:
        """The registry is away, or back."""
        self.registry.away = away

    @rule()
    def look_at_storage(self) -> None:
        """One of the monitors, any of them, has its turn."""
        meter = StorageMeter(source=self.registry, store=self.storage, clock=self.clock)
        try:
            self.run(meter.keep())
        except MeshError:
            return
        self.known.setdefault(hour_of(self.clock.now()), list(self.registry.held))

    @invariant()
    def usage_is_what_a_recount_says(self) -> None:
        """At every moment, of all that is stored."""
        wanted: dict[UsageKey, Used] = defaultdict(Used)
        for batcher in self.batchers.values():
            position = self.run(self.log.position(batcher.stream))
            assert batcher.acknowledged <= position
            for sequence, (sent_us, requests) in batcher.chunks.items():
                if sequence <= position:
                    for key, used in _charged(sent_us, requests):
                        wanted[key].add(used)
        stored = {UsageKey(hour, one.team, one.model, ""): one.bytes for hour, held in self._storage() for one in held}
        found = self.run(self._everything())
        assert [one.key for one in found] == sorted(wanted.keys() | stored.keys())
        for one in found:
            assert one.used == wanted.get(one.key, Used())
            assert one.stored_byte_hours == stored.get(one.key, 0)

    @rule(first=st.integers(-60, 60), length=st.integers(1, 120))
    def sums_over_hours_are_those_of_the_hours(self, first: int, length: int) -> None:
        """Over whole days and parts of them."""
        begin = hour_of(NOON) + first
        query = UsageQuery(Hours(begin, begin + length))
        wanted: dict[tuple[str, str, str], tuple[Used, int]] = defaultdict(lambda: (Used(), 0))
        for one in self.run(self.reader.by_hour(query, after=None, limit=100_000)):
            name = (one.key.team, one.key.model, one.key.version)
            used, stored = wanted[name]
            used.add(one.used)
            wanted[name] = (used, stored + one.stored_byte_hours)
        found = self.run(self.reader.totals(query, after=None, limit=100_000))
        assert [(one.key.team, one.key.model, one.key.version) for one in found] == sorted(wanted)
        for one in found:
            assert (one.used, one.stored_byte_hours) == wanted[one.key.team, one.key.model, one.key.version]

    async def _everything(self) -> list[Metered]:
        noon = hour_of(NOON)
        query = UsageQuery(Hours(noon - 48, noon + 10_000))
        return list(await self.reader.by_hour(query, after=None, limit=100_000))

    def _storage(self) -> Iterator[tuple[int, list[Stored]]]:
        """Each hour from the first that was looked at to the last, with what was known of it or before."""
        held: list[Stored] = []
        for hour in range(min(self.known, default=0), max(self.known, default=-1) + 1):
            held = self.known.get(hour, held)
            yield hour, held

    def teardown(self) -> None:
        """In quiet, everything arrives."""
        if not hasattr(self, "log"):
            self.runner.close()
            return
        self.log.fail_next.clear()
        for name, batcher in self.batchers.items():
            self.reconnect(name, 0)
            for _ in range(3):
                while batcher.chunks and batcher.next_to_send <= max(batcher.chunks):
                    self.send(name, [])
                self.flush(0)
            assert batcher.acknowledged == max(batcher.chunks, default=0)
        self.usage_is_what_a_recount_says()
        self.run(self.close())
        self.runner.close()


def _charged(sent_us: int, requests: list[Asked]) -> Iterator[tuple[UsageKey, Used]]:
    """One by one, as the documentation says it."""
    for one in requests:
        own_doing = one.reason and not is_fault(REASONS[one.reason])
        if one.kind not in {0, 4} or (one.reason and not own_doing):
            continue
        key = UsageKey((sent_us - one.ago_us) // HOUR_US, one.team, "digits", "v1.0.0")
        predictions = 0 if one.reason else one.rows
        yield key, Used(1, predictions, one.latency_us, one.compute_us, one.compute_us * round(GPUS * 1000))
