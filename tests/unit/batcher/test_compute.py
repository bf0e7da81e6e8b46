"""What a request is charged of model servers' time: its share by rows, over splits and second tries; and nothing of
what was kept."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from services.batcher.domain.cached import CacheOutcome
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import Batching, ServedModel, ServingTable
from services.batcher.engines.cache import PredictionCache
from services.batcher.engines.engine import Engine
from services.batcher.faces.call import Call
from services.batcher.faces.catalog import Catalog
from services.batcher.faces.core import Core
from services.common.clock import LoopClock
from tests.support.batcher_cache_fakes import VERSION, FakeModel, FakeStore, answer, numbers_of
from tests.support.batcher_cache_fakes import request as cached_request
from tests.support.batcher_engine_fakes import FakeServer, echo, request, served
from tests.unit.batcher.engine_driving import begin, failure, guilty, numbers

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

CLOCK = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))


async def test_a_batch_is_shared_by_rows(engine: Engine, server: FakeServer) -> None:
    server.latency_s = 0.08
    version = served()
    results = await asyncio.gather(*(engine.infer(request(version, [0] * rows)) for rows in (1, 2, 5)))
    assert [result.compute_s for result in results] == pytest.approx([0.01, 0.02, 0.05])


async def test_the_wait_before_a_batch_is_not_computing(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=1))
    results = await asyncio.gather(*(engine.infer(request(version, [n])) for n in range(10)))
    assert [result.compute_s for result in results] == pytest.approx([server.latency_s] * 10)


async def test_the_parts_of_a_large_request_add_up(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=4))
    large, small = await asyncio.gather(*(engine.infer(request(version, [0] * rows)) for rows in (10, 2)))
    assert len(server.sent) == 3
    assert large.compute_s + small.compute_s == pytest.approx(3 * server.latency_s)
    assert small.compute_s == pytest.approx(server.latency_s / 2)


async def test_what_a_model_refused_for_the_sake_of_others_counts_too(engine: Engine, server: FakeServer) -> None:
    """Four together, then two and two, then those of the guilty pair alone."""
    server.answer, server.latency_s = guilty(3), 0.04
    version = served()
    tasks = begin(engine, *(request(version, [number]) for number in range(3)))
    error = await failure(engine, request(version, [3]))
    assert "ValueError: 3" in error.message
    computed = [(await task).compute_s for task in tasks]
    assert sorted(computed) == pytest.approx([0.01 + 0.02, 0.01 + 0.02, 0.01 + 0.02 + 0.04])


@pytest.mark.parametrize(
    ("kind", "charged"),
    [
        (FailureKind.PROTOCOL, True),
        (FailureKind.LOST, False),
        (FailureKind.CRASHED, False),
        (FailureKind.GARBLED, False),
    ],
)
async def test_what_broke_on_its_way_is_charged_to_nobody(
    engine: Engine, server: FakeServer, kind: FailureKind, charged: bool
) -> None:
    """A model that answers what it did not promise ran; a connection that broke, or a process that died, is the
    platform's."""
    failures = [BackendFailure(kind, "once")]

    def once(rows: int, data: bytes) -> Sequence[Tensor] | BackendFailure:
        return failures.pop() if failures else echo(rows, data)

    server.answer = once
    tasks = begin(engine, *(request(served(), [number]) for number in range(2)))
    results = await asyncio.gather(*tasks)
    assert [numbers(result) for result in results] == [[0], [1]]
    answered_s = server.latency_s * (len(server.sent) - 1)
    in_vain_s = server.latency_s if charged else 0.0
    assert sum(result.compute_s for result in results) == pytest.approx(answered_s + in_vain_s)


def computing(asked: InferRequest) -> InferResult:
    """A model that takes a second for each row."""
    result = answer(numbers_of(asked), asked.outputs)
    result.compute_s = float(asked.rows)
    return result


async def test_only_what_was_computed_counts_of_what_is_cached() -> None:
    cache = PredictionCache(engine=FakeModel(CLOCK, answers=computing), clock=CLOCK, store=FakeStore(CLOCK))
    charged = []
    for rows in ([1], [1], [1, 2, 3], [3, 3, 4, 4], [1, 2]):
        answered = await cache.infer(cached_request(rows))
        charged.append((answered.outcome, answered.result.compute_s))
    assert charged == [
        (CacheOutcome.MISS, 1.0),
        (CacheOutcome.HIT, 0.0),
        (CacheOutcome.PARTIAL, 2.0),
        (CacheOutcome.PARTIAL, 1.0),
        (CacheOutcome.HIT, 0.0),
    ]


async def test_who_waits_for_anothers_computation_is_not_charged_for_it() -> None:
    cache = PredictionCache(engine=FakeModel(CLOCK, answers=computing), clock=CLOCK)
    answered = await asyncio.gather(*(cache.infer(cached_request([7])) for _ in range(3)))
    assert sorted(one.result.compute_s for one in answered) == [0.0, 0.0, 1.0]


class Door:
    """Requests with a gateway's headers, through the core to the engine."""

    def __init__(self, engine: Engine, *, batch: int) -> None:
        version = served(batching=Batching(max_batch_size=batch))
        self.core = Core(
            catalog=Catalog(),
            engine=engine,
            features=None,  # type: ignore[arg-type] # the version has none
            request_log=None,  # type: ignore[arg-type] # nothing is accounted for here
            clock=CLOCK,
            deadline_default_s=100.0,
            deadline_max_s=100.0,
        )
        self.core.catalog.apply(ServingTable(1, {"m": ServedModel("m", "v1.0.0", {"v1.0.0": version})}))

    async def ask(self, number: int, headers: Mapping[bytes, bytes]) -> Call:
        """One row."""
        now_s = self.core.monotonic()
        call = Call(headers, arrived_s=now_s, caller=self.core.callers.of(headers, now_s))
        plan = self.core.resolve(call, "m", "")
        asked = request(plan.served, [number])
        await self.core.infer(call, rows=1, inputs=asked.inputs)
        return call


def team(name: str) -> dict[bytes, bytes]:
    return {b"x-infermesh-team": name.encode(), b"x-infermesh-role": b"viewer"}


async def test_teams_share_a_version_by_the_headers_that_the_gateway_sets(engine: Engine, server: FakeServer) -> None:
    """Forty requests of one team wait; the four of another that come then are not behind them."""
    door = Door(engine, batch=4)
    server.held = True
    loop = asyncio.get_running_loop()
    flood = [loop.create_task(door.ask(number, team("flood"))) for number in range(40)]
    await asyncio.sleep(0.001)
    few = [loop.create_task(door.ask(100 + number, team("few"))) for number in range(4)]
    await asyncio.sleep(0.001)
    before = len(server.sent)
    while server.waiting:
        server.release()
        await asyncio.sleep(0.001)
    calls = await asyncio.gather(*flood, *few)
    first = [number for sent in server.sent[before : before + 3] for number in sent.numbers]
    assert sum(number >= 100 for number in first) == 4, [sent.numbers for sent in server.sent]
    assert {call.team for call in calls} == {"flood", "few"}
    assert all(call.compute_s > 0 for call in calls)


async def test_what_one_team_asked_is_not_another_teams_to_find_in_the_cache() -> None:
    """Nor the other way round for the same team, whichever of its keys asks."""
    model = FakeModel(CLOCK, answers=computing)
    core = Core(
        catalog=Catalog(),
        engine=model,
        cache=PredictionCache(engine=model, clock=CLOCK),
        features=None,  # type: ignore[arg-type] # the version has none
        request_log=None,  # type: ignore[arg-type] # nothing is accounted for here
        clock=CLOCK,
        deadline_default_s=100.0,
        deadline_max_s=100.0,
    )
    core.catalog.apply(ServingTable(1, {"m": ServedModel("m", "v1.0.0", {"v1.0.0": VERSION})}))
    outcomes = []
    for name, key in (("vision", b"k1"), ("vision", b"k2"), ("risk", b"k3"), ("risk", b"k3")):
        headers = {**team(name), b"x-infermesh-key": key}
        now_s = core.monotonic()
        call = Call(headers, arrived_s=now_s, caller=core.callers.of(headers, now_s))
        core.resolve(call, "m", "")
        await core.infer(call, rows=1, inputs=cached_request([5]).inputs)
        outcomes.append((call.cached, call.compute_s))
    miss, hit = (CacheOutcome.MISS, 1.0), (CacheOutcome.HIT, 0.0)
    assert outcomes == [miss, hit, miss, hit]
