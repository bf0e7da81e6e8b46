"""A batcher, a monitor and a database that fail at any moment: what was acknowledged is counted, and once.

The batcher keeps what is not acknowledged and sends it again over the next connection, as the contract says. The
database may fail before or after a write took hold; the monitor may be killed; two monitors may run at once.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.common.errors import MeshError
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.records import Chunk, StreamKey
from services.monitor.engines.live import Live
from services.monitor.engines.recorder import Recorder, Session
from services.monitor.engines.stream import RecorderLimits
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_log import group_of
from tests.support.monitor_stores import MemoryStore, SilentBoard

T = TypeVar("T")
NOON_US = int(NOON.timestamp() * 1_000_000)
STREAM = StreamKey("batcher-0", 1)
MONITORS = st.integers(0, 1)


class LogMachine(RuleBasedStateMachine):
    """One batcher, two monitors, one database."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = MemoryStore()
        self.sent: dict[int, int] = {}
        self.acknowledged = 0
        self.next_to_send = 1
        self.session: Session | None = None
        """None while the batcher is connected to nobody."""
        self.connected_to = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        self.monitors = [self._monitor(), self._monitor()]
        self._connect(0)

    def _monitor(self) -> Recorder:
        return Recorder(
            store=self.store,
            live=Live(),
            board=SilentBoard(),
            clock=FakeClock(),
            reason_name=str,
            limits=RecorderLimits(flush_period_s=1.0, cells_max=1000, rows_max=1000, sample_rate=1.0),
        )

    def _connect(self, which: int) -> None:
        if self.session is not None:
            self.session.close()
        self.connected_to, self.session = which, None
        try:
            self.session = self.run(self.monitors[which].open(STREAM))
        except MeshError:
            assert self.store.silent
            return
        self._read_acknowledgement()
        self.next_to_send = self.acknowledged + 1

    def _read_acknowledgement(self) -> None:
        """What the connection says next, if it has anything to say."""

        session = self.session
        if session is None:
            return

        async def read() -> int | None:
            try:
                async with aclosing(session.acknowledgements()) as acknowledgements, asyncio.timeout(0):
                    return await anext(acknowledgements)
            except TimeoutError:
                return None

        try:
            position = self.run(read())
        except MeshError:
            self._connect(self.connected_to)
            return
        if position is not None:
            assert position >= self.acknowledged, "an acknowledgement was taken back"
            self.acknowledged = position

    @precondition(lambda self: self.session is not None)
    @rule(requests=st.integers(1, 5))
    def send(self, requests: int) -> None:
        """The next chunk: an old one where the connection was lost, else a new one."""
        size = self.sent.setdefault(self.next_to_send, requests)
        group = group_of([1000] * size, times_us=[NOON_US] * size)
        chunk = Chunk(STREAM, self.next_to_send, dropped_total=0, groups=[group], refused_groups=0)
        assert self.session is not None
        try:
            self.run(self.session.take(chunk))
        except MeshError:
            self._connect(self.connected_to)
        else:
            self.next_to_send += 1

    @rule(which=MONITORS)
    def flush(self, which: int) -> None:
        """A monitor stores what waits."""
        self.run(self.monitors[which].flush())
        self._read_acknowledgement()

    @rule(failures=st.lists(st.sampled_from(["before", "after"]), min_size=1, max_size=3))
    def database_fails(self, failures: list[str]) -> None:
        """The next writes fail."""
        self.store.fail_next.extend(failures)

    @rule(which=MONITORS)
    def reconnect(self, which: int) -> None:
        """The connection is lost; the batcher goes to either monitor."""
        self._connect(which)

    @rule(which=MONITORS)
    def kill(self, which: int) -> None:
        """A monitor dies with all that it had in memory and comes back empty."""
        self.monitors[which] = self._monitor()
        if which == self.connected_to:
            self._connect(which)

    @precondition(lambda self: not self.store.silent)
    @rule()
    def database_goes_away(self) -> None:
        """Nothing can be read or written."""
        self.store.silent = True
        self.store.fail_next.extend(["before"] * 100)

    @precondition(lambda self: bool(self.store.fail_next))
    @rule()
    def database_recovers(self) -> None:
        """No more failures."""
        self.store.silent = False
        self.store.fail_next.clear()

    @invariant()
    def what_is_acknowledged_is_counted_once(self) -> None:
        position = self.store.positions.get(STREAM, 0)
        assert self.acknowledged <= position
        counted = sum(cell.counts[REQUESTS] for cell in self.store.cells.values())
        assert counted == sum(size for sequence, size in self.sent.items() if sequence <= position)
        assert len(self.store.rows) == counted

    def teardown(self) -> None:
        """In quiet, everything arrives."""
        self.store.silent = False
        self.store.fail_next.clear()
        self._connect(self.connected_to)
        for _ in range(4):
            while self.sent and self.next_to_send <= max(self.sent):
                self.send(1)
            self.flush(self.connected_to)
        assert self.acknowledged == max(self.sent, default=0)
        self.what_is_acknowledged_is_counted_once()
        self.runner.close()


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
