"""Evidence is what a naive recount of the log says, to the second, whatever dies and whoever counts.

A batcher sends requests of random seconds to two monitors over one database that fails; watches are registered at any
moment. A monitor may run out of room for seconds: then a window may begin at the next whole minute, and says so.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.errors import MeshError
from services.monitor.domain.evidence import Sums, WatchKey, head_end, version_evidence
from services.monitor.domain.records import Chunk, StreamKey
from services.monitor.engines.live import Live
from services.monitor.engines.recorder import Recorder, Session
from services.monitor.engines.stream import RecorderLimits
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_evidence import MemoryEvidenceStore
from tests.support.monitor_log import group_of
from tests.support.monitor_stores import MemoryStore, SilentBoard

T = TypeVar("T")
NOON_US = int(NOON.timestamp()) * 1_000_000
STREAM = StreamKey("batcher-0", 1)
VERSIONS = ("v1.0.0", "v2.0.0")
BAD_INPUT, MODEL_FAILED = "INVALID_FIELD", "MODEL_FAILED"
REASONS = {0: "", 1: BAD_INPUT, 2: MODEL_FAILED}
MONITORS = st.integers(0, 1)
SECONDS_MAX = 8
"""What the second monitor has room for."""


@dataclass(frozen=True)
class Request:
    """A request of the naive log: when it was answered, in seconds after noon."""

    second: float
    version: str
    latency_us: int
    reason: int
    kind: int


requests = st.builds(
    Request,
    second=st.integers(-30_000, 150_000).map(lambda value: value / 1000),
    version=st.sampled_from(VERSIONS),
    latency_us=st.integers(1, 10**6),
    reason=st.sampled_from([0, 0, 0, 1, 2]),
    kind=st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
)


class EvidenceMachine(RuleBasedStateMachine):
    """One batcher, two monitors of which the second has little room, one database, any number of watches."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = MemoryStore()
        self.evidence = MemoryEvidenceStore(self.store)
        self.clock = FakeClock(NOON + timedelta(seconds=150))
        self.sent: list[list[Request]] = []
        self.watches: set[WatchKey] = set()
        self.monitors = [self._monitor(0), self._monitor(1)]
        self.session: Session | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def _monitor(self, which: int) -> Recorder:
        return Recorder(
            store=self.store,
            live=Live(),
            board=SilentBoard(),
            clock=self.clock,
            reason_name=lambda number: REASONS[number],
            limits=RecorderLimits(
                flush_period_s=1.0, cells_max=1000, rows_max=0, sample_rate=0.0, seconds_max=(1000, SECONDS_MAX)[which]
            ),
        )

    @rule(which=MONITORS, batch=st.lists(requests, min_size=1, max_size=6))
    def send(self, which: int, batch: list[Request]) -> None:
        """The batcher connects to a monitor and sends all that is not stored, with a new chunk at the end."""
        self.sent.append(batch)
        try:
            session = self.run(self.monitors[which].open(STREAM))
            for sequence in range(self.store.positions.get(STREAM, 0) + 1, len(self.sent) + 1):
                self.run(session.take(self._chunk(sequence)))
        except MeshError:
            return
        session.close()

    def _chunk(self, sequence: int) -> Chunk:
        groups = []
        for version in VERSIONS:
            found = [request for request in self.sent[sequence - 1] if request.version == version]
            groups.append(
                group_of(
                    [request.latency_us for request in found],
                    times_us=[NOON_US + round(request.second * 1_000_000) for request in found],
                    version=version,
                    codes=[13 if request.reason else 0 for request in found],
                    reasons=[request.reason for request in found],
                    kinds=[request.kind for request in found],
                )
            )
        return Chunk(STREAM, sequence, dropped_total=sequence * 2, groups=groups, refused_groups=0)

    @rule(which=MONITORS)
    def flush(self, which: int) -> None:
        """A monitor stores what waits."""
        self.run(self.monitors[which].flush())

    @rule(which=MONITORS)
    def kill(self, which: int) -> None:
        """A monitor dies with all that it had in memory."""
        self.monitors[which] = self._monitor(which)

    @rule(failures=st.lists(st.sampled_from(["before", "after"]), min_size=1, max_size=2))
    def database_fails(self, failures: list[str]) -> None:
        """The next writes fail."""
        self.store.fail_next.extend(failures)

    @rule(second=st.integers(-30, 160))
    def watch(self, second: int) -> None:
        """Someone asks for a window, now or again."""
        key = WatchKey("digits", NOON + timedelta(seconds=second))
        self.run(self.evidence.register(key, now=self.clock.now()))
        self.watches.add(key)

    @invariant()
    def evidence_is_what_was_answered(self) -> None:
        stored = [request for batch in self.sent[: self.store.positions.get(STREAM, 0)] for request in batch]
        for key, sums in self.run(self.evidence.read(sorted(self.watches), now=self.clock.now())).items():
            assert sums.begins in (key.start, head_end(key.start))
            if not self.gave_up:
                assert sums.begins == key.start
            begins = (sums.begins - NOON).total_seconds()
            for version in VERSIONS:
                check(version, sums, [r for r in stored if r.version == version and r.second >= begins])

    @property
    def gave_up(self) -> bool:
        """Whether a monitor may have run out of room for seconds."""
        return len({(request.second // 1, request.version) for batch in self.sent for request in batch}) > SECONDS_MAX

    def teardown(self) -> None:
        """Nothing is left open."""
        self.runner.close()


def check(version: str, sums: Sums, expected: list[Request]) -> None:
    """The evidence on a version is what these requests add up to."""
    found = version_evidence(version, sums)
    callers = [request for request in expected if request.kind in (0, 4)]
    assert found.request_count == len(callers)
    assert found.fault_count == sum(REASONS[request.reason] == MODEL_FAILED for request in callers)
    reasons = Counter(REASONS[request.reason] for request in callers if request.reason)
    assert found.errors_by_reason == dict(reasons)
    succeeded = [request.latency_us for request in callers if not request.reason]
    assert (found.latency.count, found.latency.sum_us) == (len(succeeded), sum(succeeded))
    assert found.latency.sum_squares_us2 == sum(latency**2 for latency in succeeded)
    assert sum(found.latency.buckets().values()) == len(succeeded)
    assert found.shadow_count == sum(request.kind == 2 for request in expected)


TestEvidence = EvidenceMachine.TestCase
TestEvidence.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
