"""Several backends behind one engine, in virtual time: what befalls one of them costs nobody an answer."""

import asyncio
from dataclasses import replace

import pytest

from services.batcher.domain.failure import FailureKind
from services.batcher.domain.serving import Backend, Protocol, ServedModel, ServedVersion, ServingTable
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.common.errors import Reason
from tests.support.batcher_engine_fakes import Fleet, backend, request, served
from tests.support.waiting import eventually
from tests.unit.batcher.engine_driving import always, begin, failure, guilty, new_engine, now_s, numbers, outcome

pytestmark = pytest.mark.looptime


def table(*backends: Backend) -> tuple[ServedVersion, ServingTable]:
    version = served(*backends)
    return version, ServingTable(1, {"m": ServedModel("m", "v1.0.0", {"v1.0.0": version})})


async def settled(engine: Engine, version: ServedVersion, *, rounds: int) -> None:
    """`rounds` requests, one after another, each answered rightly."""
    for number in range(rounds):
        assert await outcome(engine, request(version, [number], deadline_s=now_s() + 30)) == [number]


async def test_a_backend_that_refuses_everything_harms_nobody_and_is_set_aside() -> None:
    fleet = Fleet("a:1", "b:1")
    engine = new_engine(fleet, EngineOptions())
    await engine.start()
    version, _ = table(backend("a:1"), backend("b:1"))
    await settled(engine, version, rounds=4)
    fleet.servers["a:1"].answer = always(FailureKind.MODEL)
    calls = [engine.infer(request(version, [number] * 4, deadline_s=now_s() + 30)) for number in range(32)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    right = [result for result in results if not isinstance(result, BaseException)]
    assert [numbers(result) for result in right] == [[number] * 4 for number in range(32)]
    await settled(engine, version, rounds=60)
    before = len(fleet.servers["a:1"].sent)
    views = {view.backend_id: view for view in engine.placements()["m", "v1.0.0"].views(now_s())}
    assert (views["a:1"].state, views["a:1"].ejections) == ("ejected", 1)
    assert views["a:1"].why_not.startswith("ejected: ")
    await settled(engine, version, rounds=20)
    assert len(fleet.servers["a:1"].sent) == before
    fleet.servers["a:1"].answer = fleet.servers["b:1"].answer
    await asyncio.sleep(3)
    await settled(engine, version, rounds=2)
    assert engine.placements()["m", "v1.0.0"].views(now_s())[0].state == "slow_start"
    assert len(fleet.servers["a:1"].sent) > before
    await engine.stop()


async def test_a_bad_request_is_still_blamed_where_there_are_several_backends() -> None:
    fleet = Fleet("a:1", "b:1")
    for server in fleet.servers.values():
        server.answer = guilty(7)
    engine = new_engine(fleet, EngineOptions())
    await engine.start()
    version, _ = table(backend("a:1"), backend("b:1"))
    for _ in range(30):
        asked = [outcome(engine, request(version, [number], deadline_s=now_s() + 30)) for number in range(10)]
        for number, told in enumerate(await asyncio.gather(*asked)):
            if number == 7:
                assert not isinstance(told, list)
                assert told.reason is Reason.MODEL_FAILED
            else:
                assert told == [number]
    await engine.stop()


async def test_a_backend_that_leaves_finishes_what_it_has_and_is_then_let_go() -> None:
    fleet = Fleet("a:1", "b:1")
    engine = new_engine(fleet, EngineOptions())
    await engine.start()
    version, both = table(backend("a:1"), backend("b:1"))
    engine.serve(both)
    await settled(engine, version, rounds=4)
    leaving = fleet.servers["a:1"]
    for server in fleet.servers.values():
        server.held = True
    first = begin(engine, *(request(version, [number] * 32) for number in range(4)))
    await asyncio.sleep(0.01)
    assert len(leaving.waiting) == 2
    kept, one = table(backend("b:1"))
    engine.serve(one)
    sent = len(leaving.sent)
    more = begin(engine, *(request(kept, [number] * 32) for number in range(4, 8)))
    await asyncio.sleep(0.01)
    assert (len(leaving.sent), leaving.closed) == (sent, False)
    leaving.release()
    leaving.release()
    await asyncio.sleep(0)
    fleet.servers["b:1"].held = False
    fleet.servers["b:1"].release()
    fleet.servers["b:1"].release()
    await asyncio.gather(*first, *more)
    assert (len(leaving.sent), leaving.closed) == (sent, True)
    await engine.stop()


async def test_a_backend_that_comes_back_while_it_drains_is_kept() -> None:
    fleet = Fleet("a:1", "b:1")
    engine = new_engine(fleet, EngineOptions())
    await engine.start()
    version, both = table(backend("a:1"), backend("b:1"))
    engine.serve(both)
    await settled(engine, version, rounds=4)
    fleet.servers["a:1"].held = True
    calls = begin(engine, *(request(version, [number] * 32) for number in range(4)))
    await asyncio.sleep(0.001)
    engine.serve(table(backend("b:1"))[1])
    engine.serve(table(backend("a:1"), backend("b:1"))[1])
    fleet.servers["a:1"].held = False
    while fleet.servers["a:1"].waiting:
        fleet.servers["a:1"].release()
    await asyncio.gather(*calls)
    assert not fleet.servers["a:1"].closed
    await engine.stop()


async def test_the_error_says_why_each_backend_cannot_be_used() -> None:
    fleet = Fleet("a:1", "b:1")
    fleet.servers["a:1"].down = True
    fleet.servers["b:1"].answer = always(FailureKind.MISSING)
    engine = new_engine(fleet, EngineOptions(outage_patience_s=0.02, probe_delay_min_s=0.5))
    await engine.start()
    version, _ = table(backend("a:1"), backend("b:1"))
    error = await failure(engine, request(version, [1], deadline_s=now_s() + 30))
    assert error.reason is Reason.BACKEND_UNAVAILABLE
    assert error.metadata["backends"].startswith(
        "a:1: its server, a:1, does not answer, for 0.0 s now; b:1: it cannot run the version, for 0.0 s now (told"
    )
    assert "a:1: its server, a:1, does not answer" in error.message
    await engine.stop()


async def test_an_address_that_is_spoken_to_in_two_ways_is_two_servers_and_each_model_there_a_place() -> None:
    fleet = Fleet()
    engine = new_engine(fleet, EngineOptions())
    await engine.start()
    rest = Backend("one", "h:1", "", "m", protocol=Protocol.OIP_REST)
    version, step = table(
        rest,
        replace(rest, backend_id="two", server_model_version="2"),
        replace(rest, backend_id="three", protocol=Protocol.TORCHSERVE),
    )
    engine.serve(step)
    await settled(engine, version, rounds=12)
    assert set(fleet.servers) - {"a:1"} == {"oip-rest://h:1", "torchserve://h:1"}
    (placement,) = engine.placements().values()
    assert [view.backend_id for view in placement.views(now_s())] == ["one", "two", "three"]
    engine.serve(ServingTable(2, {}))
    await eventually(lambda: all(fleet.servers[name].closed for name in ("oip-rest://h:1", "torchserve://h:1")))
    await engine.stop(0)
