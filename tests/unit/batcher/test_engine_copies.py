"""Shadow copies in the engine: they get what is idle, and nothing else."""

import asyncio
from random import Random

import pytest

from services.batcher.domain.failure import FailureKind
from services.batcher.domain.places import COPIES_AT_ONCE_MAX
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferResult
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from services.common.errors import MeshError, Reason
from tests.support.batcher_engine_fakes import FakeServer, Fleet, backend, request, served
from tests.unit.batcher.engine_driving import begin, failure, guilty, now_s, numbers

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


async def released(server: FakeServer) -> None:
    """All that comes to the server is answered, until nothing has come for a while."""
    quiet = 0
    while quiet < 20:
        quiet = 0 if server.waiting else quiet + 1
        if server.waiting:
            server.release()
        await asyncio.sleep(0.1)


async def test_copies_wait_until_no_version_uses_the_server_however_long_that_is(
    engine: Engine, server: FakeServer
) -> None:
    busy, quiet = served(version="v1.0.0"), served(version="v2.0.0")
    server.held = True
    calls = begin(engine, request(busy, [1]))
    await asyncio.sleep(0.001)
    copies = begin(engine, *(request(quiet, [-number], priority=Priority.SHADOW) for number in range(1, 3)))
    await asyncio.sleep(30)
    assert [sent.numbers for sent in server.sent] == [[1]], "another version's caller is there"
    server.release()
    await asyncio.sleep(0.001)
    assert [sent.numbers for sent in server.sent] == [[1], [-1, -2]]
    copies += begin(engine, request(quiet, [-3], priority=Priority.SHADOW))
    calls += begin(engine, request(busy, [2]), request(quiet, [3], priority=Priority.EXPLANATION))
    await asyncio.sleep(0.001)
    assert sorted(sent.numbers for sent in server.sent[2:]) == [[2], [3]], "a copy on its way holds nobody up"
    await released(server)
    assert server.sent[-1].numbers == [-3]
    await asyncio.gather(*calls, *copies)


async def test_copies_that_fail_are_tried_again_only_where_something_is_idle(
    engine: Engine, server: FakeServer
) -> None:
    version = served(batching=Batching(max_batch_size=2))
    server.held, server.answer = True, guilty(-2)
    copies = begin(engine, *(request(version, [-number], priority=Priority.SHADOW) for number in range(1, 3)))
    await asyncio.sleep(0.001)
    calls = begin(engine, request(version, [1]))
    await asyncio.sleep(0.001)
    server.release()
    await asyncio.sleep(0.001)
    assert [sent.numbers for sent in server.sent] == [[-1, -2], [1]]
    await released(server)
    assert [sent.numbers for sent in server.sent] == [[-1, -2], [1], [-1], [-2]]
    assert [numbers(await one) for one in (*calls, copies[0])] == [[1], [-1]]
    assert isinstance(copies[1].exception(), MeshError)


async def test_a_version_has_one_batch_of_copies_on_its_way_to_a_server(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=2))
    server.held = True
    copies = begin(engine, *(request(version, [-number], priority=Priority.SHADOW) for number in range(1, 6)))
    sizes = []
    for _ in range(3):
        await asyncio.sleep(0.001)
        assert len(server.waiting) == 1
        sizes.append(server.waiting[0].rows)
        server.release()
    assert sizes == [2, 2, 1]
    await asyncio.gather(*copies)


async def test_a_server_has_few_batches_of_copies_of_however_many_versions(engine: Engine, server: FakeServer) -> None:
    versions = [served(version=f"v{number}.0.0") for number in range(3 * COPIES_AT_ONCE_MAX)]
    server.held = True
    copies = begin(engine, *(request(version, [-1], priority=Priority.SHADOW) for version in versions))
    await asyncio.sleep(1)
    assert len(server.waiting) == COPIES_AT_ONCE_MAX
    calls = begin(engine, request(versions[0], [1]))
    await asyncio.sleep(0.001)
    assert server.sent[-1].numbers == [1]
    await released(server)
    assert len(server.sent) == len(versions) + 1
    await asyncio.gather(*calls, *copies)


async def test_copies_go_before_batch_jobs_which_are_not_starved_by_them(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=1))
    server.held = True
    jobs = begin(engine, request(version, [9], priority=Priority.BACKGROUND))
    copies = begin(engine, *(request(version, [-number], priority=Priority.SHADOW) for number in range(1, 10)))
    while server.waiting or not server.sent:
        await asyncio.sleep(1)
        if server.waiting:
            server.release()
        await asyncio.sleep(0.001)
    order = [sent.numbers[0] for sent in server.sent]
    assert order[0] == -1
    assert 4 <= order.index(9) <= 6, "after five seconds"
    await asyncio.gather(*jobs, *copies)


async def test_the_copies_of_a_version_whose_server_is_dead_change_nothing_for_callers(
    engine: Engine, fleet: Fleet, server: FakeServer
) -> None:
    fleet.servers["b:1"].down = True
    alive, dead = served(version="v1.0.0"), served(backend("b:1"), version="v2.0.0")
    copies = begin(engine, *(request(dead, [-1], priority=Priority.SHADOW, deadline_s=5.0) for _ in range(50)))
    for number in range(20):
        began_s = asyncio.get_running_loop().time()
        assert numbers(await engine.infer(request(alive, [number]))) == [number]
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(server.latency_s)
    errors = [error for error in await asyncio.gather(*copies, return_exceptions=True) if isinstance(error, MeshError)]
    assert len(errors) == 50
    assert all("backends" in error.metadata for error in errors)


async def test_who_is_late_learns_where_it_was(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=1))
    server.held = True
    (sent,) = begin(engine, request(version, [-1], priority=Priority.SHADOW, deadline_s=0.5))
    await asyncio.sleep(0.001)
    waited = await failure(engine, request(version, [-2], priority=Priority.SHADOW, deadline_s=0.4))
    assert waited.metadata["stage"] == "queue"
    with pytest.raises(MeshError) as late:
        await sent
    assert (late.value.metadata["stage"], late.value.metadata["running_ms"]) == ("backend", "500")


async def test_few_callers_ever_meet_a_copy_on_their_server(engine: Engine, server: FakeServer) -> None:
    busy, quiet = served(version="v1.0.0"), served(version="v2.0.0")
    server.latency_s = 0.002
    stop = False
    copies: list[asyncio.Task[InferResult]] = []

    async def copying() -> None:
        while not stop:
            copies.extend(begin(engine, request(quiet, [-1], priority=Priority.SHADOW, deadline_s=now_s() + 5.0)))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(copying())
    draw = Random(1)
    for number in range(4000):
        await engine.infer(request(busy, [number]))
        await asyncio.sleep(draw.expovariate(200.0))
    stop = True
    await asyncio.gather(task, *copies, return_exceptions=True)
    callers = [sent.at_s for sent in server.sent if sent.numbers[0] >= 0]
    batches = [sent.at_s for sent in server.sent if sent.numbers[0] < 0]
    met = sum(begun < at < begun + server.latency_s for begun in batches for at in callers)
    assert 0 < met <= len(callers) / 200 + 1
    assert len(batches) > 30


async def test_a_server_that_no_caller_uses_takes_copies_without_a_pause(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=1))
    copies = begin(engine, *(request(version, [-1], priority=Priority.SHADOW) for _ in range(50)))
    await asyncio.gather(*copies)
    assert now_s() == pytest.approx(50 * server.latency_s)


async def test_a_copy_that_was_lost_with_its_server_is_not_sent_again(engine: Engine, server: FakeServer) -> None:
    server.answer = guilty(-2, kind=FailureKind.LOST)
    copies = begin(engine, *(request(served(), [-number], priority=Priority.SHADOW) for number in range(1, 4)))
    errors = await asyncio.gather(*copies, return_exceptions=True)
    assert [error.reason for error in errors if isinstance(error, MeshError)] == [Reason.BACKEND_UNAVAILABLE] * 3
    assert [sent.numbers for sent in server.sent] == [[-1, -2, -3]]
    assert numbers(await engine.infer(request(served(), [1]))) == [1]


async def test_copies_of_a_batch_that_failed_are_asked_one_by_one(engine: Engine, server: FakeServer) -> None:
    server.answer = guilty(-2, -3)
    copies = begin(engine, *(request(served(), [-number], priority=Priority.SHADOW) for number in range(1, 5)))
    await asyncio.gather(*copies, return_exceptions=True)
    assert [sent.numbers for sent in server.sent] == [[-1, -2, -3, -4], [-1], [-2], [-3], [-4]]
    assert [isinstance(one.exception(), MeshError) for one in copies] == [False, True, True, False]
