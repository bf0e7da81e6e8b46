"""What is counted of demand: who counts, what waits, and how windows that could not be told are added up."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.demand import COUNT_MAX, VERSIONS_MAX, WINDOW_MAX_S, Demand, Untold
from services.batcher.domain.priority import Priority
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from services.batcher.telemetry.recent_latency import RecentLatency
from services.batcher.telemetry.version_stats import VersionStats
from services.common.errors import Reason
from tests.support.batcher_engine_fakes import FakeServer, request, served
from tests.unit.batcher.engine_driving import begin, failure, numbers

counts = st.integers(0, COUNT_MAX)


def taken(engine: Engine) -> list[Demand]:
    return [demand for demand in engine.take_demand() if demand is not None]


@pytest.mark.looptime
async def test_what_came_is_handed_out_once(engine: Engine) -> None:
    assert taken(engine) == []
    for priority in (Priority.CALLER, Priority.EXPLANATION, Priority.BACKGROUND):
        assert numbers(await engine.infer(request(served(), [1, 2], priority=priority))) == [1, 2]
    assert taken(engine) == [Demand("m", "v1.0.0", requests=3, rows=6)]
    assert taken(engine) == []


@pytest.mark.looptime
async def test_shadow_copies_and_what_is_refused_count_for_nothing(engine: Engine) -> None:
    await engine.infer(request(served(), [1], priority=Priority.SHADOW))
    assert taken(engine) == []
    begin(engine, request(served(), [1] * 100))
    await asyncio.sleep(0)
    full = await failure(engine, request(served(), [1]))
    late = await failure(engine, request(served(), [1], deadline_s=0.0))
    assert (full.reason, late.reason) == (Reason.QUEUE_FULL, Reason.DEADLINE_TOO_SHORT)
    (demand,) = taken(engine)
    assert (demand.requests, demand.rows) == (1, 100)


@pytest.mark.looptime
async def test_a_request_larger_than_a_batch_is_one(engine: Engine) -> None:
    await engine.infer(request(served(batching=Batching(max_batch_size=4)), list(range(10))))
    (demand,) = taken(engine)
    assert (demand.requests, demand.rows) == (1, 10)


@pytest.mark.looptime
async def test_what_waits_and_what_is_on_its_way_is_told_as_long_as_it_is_there(
    engine: Engine, server: FakeServer
) -> None:
    version = served(batching=Batching(max_batch_size=2))
    server.held = True
    calls = begin(engine, *(request(version, [number]) for number in range(7)))
    copies = begin(engine, request(version, [8], priority=Priority.SHADOW))
    await asyncio.sleep(0.5)
    (demand,) = taken(engine)
    assert (demand.requests, demand.rows, demand.in_flight, demand.queued) == (7, 7, 4, 3)
    assert demand.waited_max_s == pytest.approx(0.5)
    await asyncio.sleep(0.5)
    (demand,) = taken(engine)
    assert (demand.requests, demand.in_flight, demand.queued) == (0, 4, 3)
    assert demand.waited_max_s == pytest.approx(1.0)
    server.held = False
    while server.waiting:
        server.release()
    await asyncio.gather(*calls, *copies)
    assert taken(engine) == []


def told(untold: Untold) -> dict[tuple[str, str], Demand]:
    return {demand.key: demand for demand in untold.demands}


def test_windows_are_added_up_and_told_once() -> None:
    untold = Untold()
    untold.add([Demand("m", "v1", requests=2, rows=4, in_flight=1, queued=9, waited_max_s=3.0, p95_ms=5.0)], 2.0)
    untold.add(
        [Demand("m", "v1", requests=3, rows=3, in_flight=2, waited_max_s=1.0), Demand("n", "v1", requests=1)], 2.5
    )
    assert untold.window_s == 4.5
    assert told(untold) == {
        ("m", "v1"): Demand("m", "v1", requests=5, rows=7, in_flight=2, waited_max_s=3.0, p95_ms=5.0),
        ("n", "v1"): Demand("n", "v1", requests=1),
    }
    untold.clear()
    assert (untold.window_s, told(untold)) == (0.0, {})


@given(st.lists(st.tuples(counts, st.floats(0.0, 100.0)), min_size=1, max_size=60))
def test_however_long_nobody_hears_counts_and_windows_are_within_bounds(windows: list[tuple[int, float]]) -> None:
    untold = Untold()
    for requests, seconds in windows:
        untold.add([Demand("m", "v1", requests=requests, rows=requests)], seconds)
        (demand,) = untold.demands
        assert 0 <= demand.requests <= COUNT_MAX
        assert untold.window_s <= WINDOW_MAX_S
    assert (demand.requests > 0) == any(requests for requests, _ in windows), "who was asked for is told"


def test_a_long_silence_does_not_change_the_pace() -> None:
    untold = Untold()
    for _ in range(300):
        untold.add([Demand("m", "v1", requests=200, rows=2000)], 2.0)
    (demand,) = untold.demands
    assert demand.requests / untold.window_s == pytest.approx(100, rel=0.02)
    assert demand.rows / untold.window_s == pytest.approx(1000, rel=0.02)


def test_what_is_remembered_is_bounded() -> None:
    untold = Untold()
    for number in range(10):
        untold.add([Demand("m", f"v{number}.{one}", requests=1) for one in range(2000)], 2.0)
    assert len(told(untold)) <= VERSIONS_MAX
    assert ("m", "v9.1999") in told(untold)


def test_latency_is_that_of_the_last_window() -> None:
    stats = VersionStats("m", "v1")
    settled: list[int] = []
    recent = RecentLatency(stats=lambda *key: stats if key == ("m", "v1") else None, settle=lambda: settled.append(1))
    key = ("m", "v1")
    stats.took(9.0)
    assert recent.p95_ms([key, ("gone", "v1")]) == {}
    for _ in range(100):
        stats.took(0.009)
    assert 7.5 < recent.p95_ms([key])[key] <= 10.0
    assert recent.p95_ms([key]) == {key: 0.0}
    assert recent.p95_ms([]) == {}
    assert recent.p95_ms([key]) == {}, "what was since whenever says little"
    assert len(settled) == 5
