"""Who shares a batch, when it leaves, who gets what, and what a caller's leaving changes: nothing for anybody else."""

import asyncio
from dataclasses import replace

import pytest

from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, Tensor
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.common.errors import MeshError, Reason
from services.common.schema import DataType
from tests.support.batcher_engine_fakes import FakeServer, Fleet, request, served
from tests.unit.batcher.engine_driving import begin, failure, new_engine, now_s, numbers

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


async def test_what_arrives_together_leaves_together_and_comes_back_apart(engine: Engine, server: FakeServer) -> None:
    version = served()
    results = await asyncio.gather(*(engine.infer(request(version, [n, -n])) for n in range(5)))
    assert [numbers(result) for result in results] == [[n, -n] for n in range(5)]
    assert [tensor.shape for tensor in results[0].outputs] == [(2, 2), (2,)]
    assert [sent.rows for sent in server.sent] == [10]
    assert now_s() == pytest.approx(server.latency_s)


async def test_nobody_waits_while_a_backend_is_idle_and_batches_grow_while_all_are_busy(
    engine: Engine, server: FakeServer
) -> None:
    version = served()
    server.held = True
    calls = []
    for number in range(7):
        calls += begin(engine, request(version, [number]))
        await asyncio.sleep(0.001)
    assert [sent.numbers for sent in server.sent] == [[0], [1]]
    server.release()
    await asyncio.sleep(0)
    assert server.sent[2].numbers == [2, 3, 4, 5, 6]
    server.release()
    server.release()
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[number] for number in range(7)]


async def test_a_batch_never_exceeds_the_maximum_and_a_larger_request_is_split_and_rejoined(
    engine: Engine, server: FakeServer
) -> None:
    version = served(batching=Batching(max_batch_size=4))
    sizes = [3, 2, 11, 1, 1]
    wanted = [[100 * index + row for row in range(size)] for index, size in enumerate(sizes)]
    results = await asyncio.gather(*(engine.infer(request(version, rows)) for rows in wanted))
    assert [numbers(result) for result in results] == wanted
    assert results[2].outputs[0].shape == (11, 2)
    assert max(sent.rows for sent in server.sent) == 4
    assert sum(sent.rows for sent in server.sent) == 18


async def test_without_batching_each_goes_alone(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(enabled=False))
    await asyncio.gather(*(engine.infer(request(version, [n, n])) for n in range(3)))
    assert [sent.rows for sent in server.sent] == [2, 2, 2]


async def test_requests_that_differ_never_share_a_batch(engine: Engine, server: FakeServer) -> None:
    version = served()
    different = [
        request(version, [1]),
        request(version, [1], outputs=("first",)),
        request(version, [1], outputs=("first", "y")),
        request(version, [1], parameters=(("k", 1),)),
        request(version, [1], parameters=(("k", True),)),
        request(version, [1], parameters=(("k", 1.0),)),
        request(version, [1], priority=Priority.BACKGROUND),
        request(served(version="v2.0.0"), [1]),
    ]
    results = await asyncio.gather(*(engine.infer(one) for one in [*different, *different]))
    assert [sent.rows for sent in server.sent] == [2] * len(different)
    assert [tensor.name for tensor in results[2].outputs] == ["first", "y"]
    assert [tensor.name for tensor in results[0].outputs] == ["y", "first"]


async def test_a_caller_that_leaves_the_queue_takes_only_itself_along(engine: Engine, server: FakeServer) -> None:
    version = served()
    server.held = True
    calls = begin(engine, *(request(version, [number]) for number in range(2)))
    await asyncio.sleep(0.001)
    calls += begin(engine, request(version, [2]))
    await asyncio.sleep(0.001)
    calls += begin(engine, *(request(version, [number]) for number in range(3, 8)))
    await asyncio.sleep(0.001)
    for call in calls[4:6]:
        call.cancel()
    await asyncio.sleep(0.001)
    assert engine.depths()["m", "v1.0.0"].rows_waiting == 3
    while server.waiting:
        server.release()
        await asyncio.sleep(0.001)
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert server.sent[-1].numbers == [3, 6, 7]
    assert [isinstance(one, asyncio.CancelledError) for one in done] == [index in (4, 5) for index in range(8)]
    assert engine.counters.cancelled == 2


async def test_who_comes_after_all_who_were_held_back_have_left_is_not_held_for_them(
    engine: Engine, server: FakeServer
) -> None:
    version = served(batching=Batching(max_batch_size=8, batch_timeout_ms=50))
    for _ in range(40):
        await asyncio.gather(*begin(engine, *(request(version, [number]) for number in range(8))))
    batches = len(server.sent)
    held = begin(engine, *(request(version, [number]) for number in range(3)))
    await asyncio.sleep(0.0005)
    assert len(server.sent) == batches, "they wait for the five who were around a moment ago"
    for call in held:
        call.cancel()
    await asyncio.sleep(1.0)
    came_s = now_s()
    assert numbers(await engine.infer(request(version, [9]))) == [9]
    assert now_s() - came_s == pytest.approx(server.latency_s)


async def test_a_caller_that_leaves_in_flight_changes_nothing_for_its_mates(engine: Engine, server: FakeServer) -> None:
    calls = begin(engine, *(request(served(), [number]) for number in range(3)))
    await asyncio.sleep(0.001)
    calls[1].cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[1], asyncio.CancelledError)
    assert [numbers(done[index]) for index in (0, 2)] == [[0], [2]]  # type: ignore[arg-type]
    assert now_s() == pytest.approx(server.latency_s)


async def test_many_callers_that_leave_cost_no_memory(engine: Engine, server: FakeServer) -> None:
    version = served()
    server.held = True
    begin(engine, request(version, [0]))
    await asyncio.sleep(0.001)
    begin(engine, request(version, [0]))
    await asyncio.sleep(0.001)
    stays = begin(engine, request(version, [1]))[0]
    for _ in range(100):
        leaving = begin(engine, *(request(version, [2]) for _ in range(20)))
        await asyncio.sleep(0)
        for call in leaving:
            call.cancel()
        await asyncio.sleep(0)
    assert engine.depths()["m", "v1.0.0"].requests_waiting == 1
    server.release()
    server.release()
    await asyncio.sleep(0)
    assert server.sent[-1].numbers == [1]
    server.release()
    assert numbers(await stays) == [1]


async def test_deadlines_end_waiting_in_the_queue_and_in_flight(engine: Engine, server: FakeServer) -> None:
    version = served()
    server.held = True
    in_flight = begin(engine, request(version, [0], deadline_s=0.3), request(version, [1], deadline_s=0.7))
    await asyncio.sleep(0.1)
    begin(engine, request(version, [2]))
    await asyncio.sleep(0.1)
    late = await failure(engine, request(version, [3], deadline_s=0.5))
    assert late.reason is Reason.DEADLINE_TOO_SHORT
    assert now_s() == pytest.approx(0.5, abs=0.01)
    assert "before a backend was free, 300 ms" in late.message
    assert in_flight[0].done()
    assert not in_flight[1].done()
    done = await asyncio.gather(*in_flight, return_exceptions=True)
    assert now_s() == pytest.approx(0.7, abs=0.01)
    assert "while the model was running" in str(done[0])
    assert server.sent[0].aborted, "nobody waits for it any longer"
    assert (await failure(engine, request(version, [3], deadline_s=0.2))).reason is Reason.DEADLINE_TOO_SHORT
    assert [sent.numbers for sent in server.sent] == [[0, 1], [2]], "what is late is never sent"


async def test_a_full_queue_says_when_to_come_back(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=10))
    server.held = True
    for _ in range(12):
        begin(engine, request(version, [0] * 10))
        await asyncio.sleep(0.001)
    full = await failure(engine, request(version, [1]))
    assert (full.reason, full.retry_after_s) == (Reason.QUEUE_FULL, 1.0)
    assert full.metadata["limit"] == "rows"
    server.latency_s, server.held = 0.1, False
    while server.waiting:
        server.release()
    await asyncio.sleep(0.25)
    begin(engine, *(request(version, [0] * 10) for _ in range(6)))
    await asyncio.sleep(0)
    again = await failure(engine, request(version, [1]))
    assert again.retry_after_s is not None
    assert 0.05 < again.retry_after_s < 1.0
    await asyncio.sleep(2)
    assert numbers(await engine.infer(request(version, [1]))) == [1]


async def test_bytes_are_bounded_over_all_versions(engine: Engine, server: FakeServer) -> None:
    server.held = True
    begin(engine, *(request(served(version=f"v{number}.0.0"), [0] * 64) for number in range(9)))
    await asyncio.sleep(0)
    full = await failure(engine, request(served(version="v9.0.0"), [0] * 64))
    assert (full.reason, full.metadata["limit"]) == (Reason.QUEUE_FULL, "bytes")
    assert engine.bytes_held == 9 * 64 * 16


async def test_background_work_gets_only_what_is_idle(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=1))
    server.held = True
    jobs = begin(engine, *(request(version, [-number], priority=Priority.BACKGROUND) for number in range(1, 4)))
    await asyncio.sleep(0.001)
    assert [sent.numbers for sent in server.sent] == [[-1]], "one slot stays free"
    calls = begin(engine, *(request(version, [number]) for number in range(1, 4)))
    while server.waiting:
        await asyncio.sleep(0.001)
        server.release()
        await asyncio.sleep(0.001)
    server.held = False
    assert [numbers(result) for result in await asyncio.gather(*jobs, *calls)] == [[-1], [-2], [-3], [1], [2], [3]]
    assert [sent.numbers for sent in server.sent] == [[-1], [1], [2], [3], [-2], [-3]]


async def test_background_work_waits_until_no_version_uses_the_server_and_is_never_starved(
    engine: Engine, server: FakeServer
) -> None:
    busy, quiet = served(version="v1.0.0"), served(version="v2.0.0")
    server.held = True
    calls = begin(engine, request(busy, [1]))
    await asyncio.sleep(0.001)
    jobs = begin(engine, *(request(quiet, [-number], priority=Priority.BACKGROUND) for number in range(1, 3)))
    await asyncio.sleep(0.001)
    assert [sent.numbers for sent in server.sent] == [[1]], "another version's caller is there"
    server.release()
    await asyncio.sleep(0.001)
    assert [sent.numbers for sent in server.sent] == [[1], [-1, -2]]
    server.release()
    calls += begin(engine, request(busy, [2]))
    await asyncio.sleep(0.001)
    jobs += begin(engine, request(quiet, [-3], priority=Priority.BACKGROUND))
    await asyncio.sleep(4.9)
    assert server.sent[-1].numbers == [2]
    await asyncio.sleep(0.2)
    assert server.sent[-1].numbers == [-3], "nothing was idle for as long as batch jobs have patience"
    jobs += begin(engine, request(quiet, [-4], priority=Priority.BACKGROUND))
    await asyncio.sleep(20)
    assert server.sent[-1].numbers == [-3], "one batch at a time"
    while server.waiting:
        server.release()
        await asyncio.sleep(0.001)
    await asyncio.gather(*calls, *jobs)


async def test_who_has_less_than_its_share_of_a_full_queue_takes_the_place_of_who_has_more(
    engine: Engine, server: FakeServer
) -> None:
    version = served(batching=Batching(max_batch_size=10))
    server.held = True
    hog = []
    for _ in range(12):
        hog += begin(engine, request(version, [0] * 10, tenant="hog"))
        await asyncio.sleep(0.001)
    assert (await failure(engine, request(version, [1], tenant="hog"))).reason is Reason.QUEUE_FULL
    guest = begin(engine, request(version, [7], tenant="guest"))
    await asyncio.sleep(0.001)
    done = [call for call in hog if call.done()]
    assert done == hog[-1:]
    error = done[0].exception()
    assert isinstance(error, MeshError)
    assert (error.reason, error.metadata["limit"], error.retry_after_s) == (Reason.QUEUE_FULL, "share", 1.0)
    server.release()
    server.release()
    await asyncio.sleep(0.001)
    assert 7 in [*server.sent[-1].numbers, *server.sent[-2].numbers], "and it is among the first to leave"
    assert not guest[0].done()


async def test_under_twice_the_load_it_can_bear_it_refuses_at_once_and_wastes_little(
    fleet: Fleet, server: FakeServer
) -> None:
    """Batches of 8 take 10 ms, one at a time: 800 rows a second. 1600 come, each with 103 ms."""
    options = EngineOptions(queue_rows_max=5000, in_flight_per_backend=1, in_flight_per_backend_max=1)
    engine = new_engine(fleet, options)
    await engine.start()
    version = served(batching=Batching(max_batch_size=8))
    outcomes: list[tuple[float, float, MeshError | None]] = []

    async def caller(number: int) -> None:
        began_s = now_s()
        try:
            await engine.infer(request(version, [number], deadline_s=began_s + 0.103))
        except MeshError as error:
            outcomes.append((began_s, now_s(), error))
        else:
            outcomes.append((began_s, now_s(), None))

    callers = []
    for number in range(8000):
        callers.append(asyncio.get_running_loop().create_task(caller(number)))
        if number % 8 == 7:
            await asyncio.sleep(0.005)
    await asyncio.gather(*callers)
    await engine.stop(0)
    settled = [outcome for outcome in outcomes if outcome[0] > 1.0]
    answered = [outcome for outcome in settled if outcome[2] is None]
    refused = [ended - began for began, ended, error in settled if error and error.reason is Reason.QUEUE_FULL]
    late = [outcome for outcome in settled if outcome[2] and outcome[2].reason is Reason.DEADLINE_TOO_SHORT]
    sent = sum(batch.rows for batch in server.sent if batch.at_s > 1.1)
    assert len(answered) >= 0.9 * 800 * 4.0
    assert len(answered) >= 0.95 * sent, "what the model worked for was in time"
    assert max(refused) == 0.0
    assert len(late) <= 0.02 * len(settled), len(late)
    assert all(ended - began <= 0.12 for began, ended, _ in settled)


async def test_a_request_without_rows_is_answered_with_none(engine: Engine, server: FakeServer) -> None:
    result = await engine.infer(request(served(), []))
    assert [(tensor.shape, bytes(tensor.data)) for tensor in result.outputs] == [((0, 2), b""), ((0,), b"")]
    assert server.sent == []


async def test_data_that_does_not_fit_its_shape_never_enters_a_batch(engine: Engine, server: FakeServer) -> None:
    short = InferRequest(served(), 2, (Tensor("x", DataType.INT64, (2, 2), b"\0" * 31),), 9.0)
    error = await failure(engine, short)
    assert error.reason is Reason.SCHEMA_VIOLATION
    assert "has 31 bytes and its shape needs 32" in error.message
    assert server.sent == []


async def test_a_new_batch_size_holds_from_the_next_request_on(engine: Engine, server: FakeServer) -> None:
    small = served(batching=Batching(max_batch_size=2))
    await asyncio.gather(*(engine.infer(request(small, [n])) for n in range(4)))
    large = replace(small, batching=Batching(max_batch_size=8))
    await asyncio.gather(*(engine.infer(request(large, [n])) for n in range(4)))
    assert [sent.rows for sent in server.sent] == [2, 2, 4]
