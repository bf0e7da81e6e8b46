"""The engine driven through whatever may happen, in virtual time, with its promises checked after every step.

Every row carries a number that no other row has, so that a row in wrong hands, or handed out twice, is seen.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.batcher.domain.activation import NoAnswerError
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import Batching, ServedModel, ServedVersion, ServingTable
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from tests.support.batcher_cold import FakeActivator
from tests.support.batcher_engine_fakes import Fleet, Sent, backend, echo, request, served

T = TypeVar("T")
ADDRESSES = ("a:1", "b:1")
addresses = st.sampled_from(ADDRESSES)
OPTIONS = EngineOptions(
    queue_rows_max=60,
    queue_bytes_max=100 * 16,
    outage_patience_s=1.5,
    backend_timeout_s=3.0,
    background_patience_s=1.0,
    idle_groups_max=4,
    weight_of={"": 1.0, "a": 1.0, "b": 3.0}.__getitem__,
)
IN_FLIGHT_MAX = OPTIONS.in_flight_per_backend_max * len(ADDRESSES)
"""Batches of one version."""
LATE_S = 0.02
"""How late a deadline may be noticed."""
EXPECTED = {
    Reason.DEADLINE_TOO_SHORT,
    Reason.QUEUE_FULL,
    Reason.BACKEND_UNAVAILABLE,
    Reason.BACKEND_PROTOCOL,
    Reason.MODEL_FAILED,
    Reason.SHUTTING_DOWN,
    Reason.LOAD_FAILED,
}
LOADS = (None, MeshError(Reason.LOAD_FAILED, "it does not fit"), NoAnswerError("connection refused"))


@dataclass(eq=False)
class Call:
    """One caller and what it must get."""

    request: InferRequest
    numbers: list[int]
    task: "asyncio.Task[InferResult]"
    began_s: float
    poisoned: bool
    checked: bool = False


@dataclass
class Model:
    """How the servers behave now."""

    poison: set[int] = field(default_factory=set)
    """Rows that the model refuses."""
    mishap: FailureKind | None = None
    """What befalls the next batches."""
    short: bool = False
    """Answers lack a row."""

    def answer(self, rows: int, data: bytes) -> Sequence[Tensor] | BackendFailure:
        if self.mishap is not None:
            return BackendFailure(self.mishap, "mishap")
        if any(int.from_bytes(data[at : at + 8], "little") in self.poison for at in range(0, len(data), 16)):
            return BackendFailure(FailureKind.MODEL, "poison")
        if self.short and rows > 1:
            return echo(rows - 1, data[:-16])
        return echo(rows, data)


class EngineMachine(RuleBasedStateMachine):
    """One engine, two servers, two versions."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.fleet = Fleet(*ADDRESSES)
        self.model = Model()
        for server in self.fleet.servers.values():
            server.answer = self.model.answer
        self.versions = {name: served(batching=Batching(max_batch_size=4), version=name) for name in ("v1", "v2")}
        self.calls: list[Call] = []
        self.seen = dict.fromkeys(ADDRESSES, 0)
        self.numbers = itertools.count(1)
        self.calm = True
        self.live_max = 0
        self.deployer = FakeActivator(load_s=0.1)
        self.deployer.loaded = self.loaded
        self.lists = True
        """Whether the table lists what the deployer has loaded."""
        self.start()

    def start(self) -> None:
        self.engine = Engine(
            clock=LoopClock(datetime(2026, 1, 15, tzinfo=UTC)),
            open_client=self.fleet,
            options=OPTIONS,
            activator=self.deployer,
        )
        self.run(self.engine.start())

    def loaded(self, version: str) -> None:
        if self.lists:
            self.versions[version] = replace(self.versions[version], backends=(backend(),), cold=False)
            self.serve()

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(
        version=st.sampled_from(("v1", "v2")),
        sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
        patience_s=st.sampled_from((0.005, 0.05, 0.5, 5.0)),
        told=st.sampled_from(((), (("k", 1),), (("k", True),))),
        priority=st.sampled_from(Priority),
        tenant=st.sampled_from(("", "a", "b")),
        poison=st.sampled_from((False, False, False, True)),
    )
    def arrive(
        self,
        *,
        version: str,
        sizes: list[int],
        patience_s: float,
        told: tuple[tuple[str, int], ...],
        priority: Priority,
        poison: bool,
        tenant: str = "",
    ) -> None:
        for size in sizes:
            numbers = list(itertools.islice(self.numbers, size))
            if poison and numbers:
                self.model.poison.add(numbers[-1])
                poison = False
            asked = request(
                self.versions[version],
                numbers,
                deadline_s=self.loop.time() + patience_s,
                parameters=told,
                priority=priority,
                tenant=tenant,
            )
            task = self.loop.create_task(self.engine.infer(asked))
            poisoned = bool(self.model.poison.intersection(numbers))
            self.calls.append(Call(asked, numbers, task, self.loop.time(), poisoned))
        self.run(asyncio.sleep(0))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiting = [call for call in self.calls if not call.task.done()]
        for call in data.draw(st.lists(st.sampled_from(waiting), max_size=4, unique=True)) if waiting else []:
            call.task.cancel()
        self.run(asyncio.sleep(0))

    @rule(seconds=st.sampled_from((0.0, 0.001, 0.01, 0.03, 0.2, 1.0, 4.0)))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @precondition(lambda self: self.calm)
    @rule(version=st.sampled_from(("v1", "v2")), left_s=st.sampled_from((0.0, 0.0005, 0.2)))
    def all_leave_and_one_comes(self, version: str, left_s: float) -> None:
        """Nobody is there to share a batch with, and all servers are: it is answered without waiting."""
        for call in self.calls:
            call.task.cancel()
        self.run(asyncio.sleep(left_s))
        came = self.calls[:]
        self.arrive(version=version, sizes=[1], patience_s=5.0, told=(), priority=Priority.CALLER, poison=False)
        newcomer = next(call for call in self.calls if call not in came)
        self.run(asyncio.wait([newcomer.task], timeout=1.0))
        assert newcomer.task.done(), "it was left to wait for those who had left"

    @rule(address=addresses, down=st.booleans())
    def kill_or_revive(self, address: str, down: bool) -> None:
        self.fleet.servers[address].down = down
        self.calm = False

    @rule(address=addresses, latency_s=st.sampled_from((0.001, 0.02, 0.3, 10.0)))
    def slow_down(self, address: str, latency_s: float) -> None:
        self.fleet.servers[address].latency_s = latency_s
        self.calm = False

    @rule(address=addresses, hung=st.booleans())
    def fall_silent_or_speak(self, address: str, hung: bool) -> None:
        self.fleet.servers[address].hung = hung
        self.calm = False

    @rule(mishap=st.sampled_from((None, None, *FailureKind)), short=st.booleans())
    def misbehave(self, mishap: FailureKind | None, short: bool) -> None:
        self.model.mishap = mishap
        self.model.short = short
        self.calm = False

    @rule(
        version=st.sampled_from(("v1", "v2")),
        places=st.lists(addresses, unique=True),
        size=st.integers(1, 6),
        enabled=st.booleans(),
        tell=st.booleans(),
    )
    def change_table(self, version: str, places: list[str], size: int, enabled: bool, tell: bool) -> None:
        batching = Batching(enabled=enabled, max_batch_size=size)
        self.versions[version] = ServedVersion(
            "m", version, "d", served().schema, batching=batching, backends=tuple(backend(one) for one in places)
        )
        if tell:
            self.run(self._tell())
        self.calm = False
        self.run(asyncio.sleep(0))

    @rule(version=st.sampled_from(("v1", "v2")), tell=st.booleans())
    def go_cold(self, version: str, tell: bool) -> None:
        self.versions[version] = replace(self.versions[version], backends=(), cold=True)
        if tell:
            self.run(self._tell())
        self.calm = False
        self.run(asyncio.sleep(0))

    @rule(outcome=st.sampled_from(LOADS), load_s=st.sampled_from((0.0, 0.1, 3.0)), lists=st.booleans())
    def deployer_changes(self, outcome: Exception | None, load_s: float, lists: bool) -> None:
        self.deployer.outcome, self.deployer.load_s, self.lists = outcome, load_s, lists
        self.calm = False

    @rule(drain_s=st.sampled_from((0.0, 0.02, 1.0)), meanwhile=st.booleans())
    def stop_and_start(self, drain_s: float, meanwhile: bool) -> None:
        """In the middle of whatever is under way. Who comes while it stops is sent away."""
        stop = self.loop.create_task(self.engine.stop(drain_s))
        began_s = self.loop.time()
        self.run(asyncio.sleep(0))
        if meanwhile:
            self.arrive(version="v1", sizes=[1], patience_s=5.0, told=(), priority=Priority.CALLER, poison=False)
            error = self.calls[-1].task.exception() if self.calls[-1].task.done() else None
            assert isinstance(error, MeshError)
            assert error.reason is Reason.SHUTTING_DOWN
        self.run(asyncio.wait_for(stop, drain_s + 5.0))
        self.run(asyncio.sleep(0))
        assert self.loop.time() - began_s <= drain_s + 1.5, "a stop takes its time to drain, and a probe's to close"
        assert all(call.task.done() for call in self.calls)
        assert self.engine.bytes_held == 0
        assert all(depth.requests_waiting + depth.batches_in_flight == 0 for depth in self.engine.depths().values())
        self.calm = False
        self.start()

    async def _tell(self) -> None:
        self.serve()

    def serve(self) -> None:
        self.engine.serve(ServingTable(1, {"m": ServedModel("m", "v1", dict(self.versions))}))

    @invariant()
    def everybody_gets_their_own_rows_or_an_error_that_fits(self) -> None:
        for call in self.calls:
            if call.task.done() and not call.checked:
                call.checked = True
                self._check(call)
        self.calls = [call for call in self.calls if not call.checked]

    def _check(self, call: Call) -> None:
        if call.task.cancelled():
            return
        error = call.task.exception()
        if error is None:
            assert not call.poisoned, "a refused row was answered"
            outputs = {tensor.name: tensor for tensor in call.task.result().outputs}
            assert bytes(outputs["y"].data) == bytes(call.request.inputs[0].data)
            assert outputs["y"].shape == (len(call.numbers), 2)
            assert outputs["first"].shape == (len(call.numbers),)
            return
        assert isinstance(error, MeshError), error
        assert error.reason in EXPECTED, error
        if self.calm and not call.poisoned:
            assert error.reason in (Reason.DEADLINE_TOO_SHORT, Reason.QUEUE_FULL), error

    @invariant()
    def nobody_waits_beyond_the_deadline(self) -> None:
        for call in self.calls:
            assert call.request.deadline_s + LATE_S >= self.loop.time(), call

    @invariant()
    def batches_are_of_one_kind_and_within_bounds(self) -> None:
        for address, server in self.fleet.servers.items():
            for sent in server.sent[self.seen[address] :]:
                self._check_batch(sent)
            self.seen[address] = len(server.sent)

    def _check_batch(self, sent: Sent) -> None:
        assert 1 <= sent.rows <= 6
        assert len(sent.data) == 16 * sent.rows
        assert len(set(sent.numbers)) == sent.rows, "a row twice in one batch"

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        depths = self.engine.depths().values()
        # One request may pass the bound alone, and failed batches come back into the line.
        rows_max = OPTIONS.queue_rows_max + 9 + IN_FLIGHT_MAX * 6
        assert all(depth.rows_waiting <= rows_max for depth in depths)
        assert all(depth.batches_in_flight <= IN_FLIGHT_MAX for depth in depths)
        assert self.engine.bytes_held <= OPTIONS.queue_bytes_max + 9 * 16
        live = [call for call in self.calls if not call.task.done()]
        assert self.engine.bytes_held == sum(16 * len(call.numbers) for call in live)
        assert sum(depth.requests_waiting for depth in depths) <= 2 * OPTIONS.queue_rows_max + len(live) * 9
        self.live_max = max(self.live_max, len(live))
        assert self.engine.groups <= 2 * (OPTIONS.idle_groups_max + self.live_max)

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.run(asyncio.sleep(0))
            self.loop.close()

    def _end(self) -> None:
        """All is mended: whoever still has time is answered, new callers are served, and a stop leaves nothing."""
        self.model.mishap, self.model.short = None, False
        self.deployer.outcome, self.deployer.load_s, self.lists = None, 0.1, True
        for server in self.fleet.servers.values():
            server.down, server.hung, server.latency_s = False, False, 0.01
        for name in self.versions:
            self.versions[name] = served(batching=Batching(max_batch_size=4), version=name)
        self.run(self._tell())
        self.run(asyncio.sleep(6))
        self.everybody_gets_their_own_rows_or_an_error_that_fits()
        assert self.calls == []
        self.model.poison.clear()
        self.calm = True
        self.arrive(version="v1", sizes=[3, 9, 1], patience_s=5.0, told=(), priority=Priority.CALLER, poison=False)
        self.arrive(version="v2", sizes=[2], patience_s=5.0, told=(), priority=Priority.BACKGROUND, poison=False)
        self.run(asyncio.sleep(0.5))
        assert all(call.task.done() and call.task.exception() is None for call in self.calls), self.calls
        self.everybody_gets_their_own_rows_or_an_error_that_fits()
        self.batches_are_of_one_kind_and_within_bounds()
        self.what_is_held_is_bounded()
        for name in self.versions:
            self.go_cold(version=name, tell=True)
        self.calm = True
        self.arrive(version="v1", sizes=[1, 9], patience_s=5.0, told=(), priority=Priority.CALLER, poison=False)
        self.run(self.engine.stop(drain_s=1.0))
        self.run(asyncio.sleep(0))
        assert all(call.task.done() and call.task.exception() is None for call in self.calls)
        assert self.engine.bytes_held == 0
        assert asyncio.all_tasks(self.loop) == set()


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
