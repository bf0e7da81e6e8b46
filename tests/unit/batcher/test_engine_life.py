"""The engine's end, and tables that change under it."""

import asyncio

import pytest

from services.batcher.domain.priority import Priority
from services.batcher.domain.serving import Batching, ServedModel, ServedVersion, ServingTable
from services.common.errors import Reason
from tests.support.batcher_engine_fakes import Fleet, backend, request, served
from tests.unit.batcher.engine_driving import begin, failure, new_engine, now_s, numbers, outcome

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


def table(*versions: ServedVersion) -> ServingTable:
    return ServingTable(1, {"m": ServedModel("m", "v1.0.0", {one.version: one for one in versions})})


async def test_a_stop_answers_what_was_taken_and_takes_nothing_more() -> None:
    fleet = Fleet("a:1")
    engine = new_engine(fleet)
    await engine.start()
    version = served(batching=Batching(max_batch_size=1))
    calls = begin(engine, *(request(version, [number]) for number in range(10)))
    await asyncio.sleep(0.001)
    stopping = asyncio.create_task(engine.stop(drain_s=5))
    await asyncio.sleep(0)
    refused = await failure(engine, request(version, [99]))
    assert refused.reason is Reason.SHUTTING_DOWN
    assert refused.retry_after_s is not None
    await stopping
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[number] for number in range(10)]
    assert now_s() == pytest.approx(0.05)
    assert fleet.servers["a:1"].closed


async def test_a_stop_is_bounded() -> None:
    fleet = Fleet("a:1")
    fleet.servers["a:1"].held = True
    engine = new_engine(fleet)
    await engine.start()
    calls = begin(engine, request(served(), [1]))
    await asyncio.sleep(0.001)
    calls += begin(engine, request(served(), [2], priority=Priority.BACKGROUND))
    await asyncio.sleep(0.001)
    await engine.stop(drain_s=1)
    assert now_s() == pytest.approx(1.002, abs=0.01)
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(error, "reason", None) for error in errors] == [Reason.SHUTTING_DOWN] * 2
    assert fleet.servers["a:1"].sent[0].aborted


async def test_a_stop_that_is_cut_short_answers_everybody_too() -> None:
    fleet = Fleet("a:1")
    fleet.servers["a:1"].held = True
    engine = new_engine(fleet)
    await engine.start()
    calls = begin(engine, request(served(), [1]))
    await asyncio.sleep(0.001)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await engine.stop(drain_s=100)
    (error,) = await asyncio.gather(*calls, return_exceptions=True)
    assert getattr(error, "reason", None) is Reason.SHUTTING_DOWN
    await engine.stop(drain_s=0)
    assert fleet.servers["a:1"].closed


async def test_an_idle_engine_stops_at_once() -> None:
    engine = new_engine(Fleet("a:1"))
    await engine.start()
    await engine.stop(drain_s=100)
    assert now_s() == 0


async def test_waiting_requests_follow_their_version_to_its_new_backends() -> None:
    fleet = Fleet("a:1", "b:1")
    old, new = fleet.servers["a:1"], fleet.servers["b:1"]
    engine = new_engine(fleet)
    await engine.start()
    before, after = served(backend("a:1")), served(backend("b:1"))
    engine.serve(table(before))
    old.down = True
    calls = begin(engine, request(before, [1]))
    await asyncio.sleep(0.5)
    engine.serve(table(after))
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[1]]
    assert now_s() == pytest.approx(0.5 + new.latency_s)
    await asyncio.sleep(0)
    assert old.closed, "nothing names it any more"
    # A request that was resolved with the table before still goes where the version is now.
    assert await outcome(engine, request(before, [2])) == [2]
    assert [sent.numbers for sent in new.sent] == [[1], [2]]
    await engine.stop(0)


async def test_a_batch_on_its_way_finishes_where_it_is() -> None:
    fleet = Fleet("a:1", "b:1")
    engine = new_engine(fleet)
    await engine.start()
    old, new = fleet.servers["a:1"], fleet.servers["b:1"]
    engine.serve(table(served(backend("a:1"))))
    calls = begin(engine, request(served(backend("a:1")), [1]))
    await asyncio.sleep(0.001)
    engine.serve(table(served(backend("b:1"))))
    await asyncio.sleep(0.001)
    closed = [old.closed]
    assert numbers(await calls[0]) == [1]
    assert new.sent == []
    engine.serve(table(served(backend("b:1"))))
    await asyncio.sleep(0)
    assert [*closed, old.closed] == [False, True]
    await engine.stop(0)


async def test_a_version_that_is_gone_leaves_nothing_behind() -> None:
    fleet = Fleet("a:1")
    engine = new_engine(fleet)
    await engine.start()
    assert await outcome(engine, request(served(), [1])) == [1]
    assert list(engine.depths()) == [("m", "v1.0.0")]
    engine.serve(table())
    assert list(engine.depths()) == []
    await asyncio.sleep(0)
    assert fleet.servers["a:1"].closed
    await engine.stop(0)


async def test_a_version_without_a_backend_waits_for_one() -> None:
    fleet = Fleet("a:1")
    engine = new_engine(fleet)
    await engine.start()
    nowhere = ServedVersion("m", "v1.0.0", "d", served().schema)
    engine.serve(table(nowhere))
    calls = begin(engine, request(nowhere, [1]))
    await asyncio.sleep(1)
    engine.serve(table(served()))
    assert numbers(await calls[0]) == [1]
    await engine.stop(0)


async def test_shapes_that_are_not_seen_again_are_forgotten() -> None:
    fleet = Fleet("a:1")
    engine = new_engine(fleet)
    await engine.start()
    for number in range(5000):
        await engine.infer(request(served(), [number], parameters=(("seed", number),)))
    assert engine.groups <= 4096
    await engine.stop(0)
