"""Models that refuse, servers that go away and come back: only the guilty see errors, whoever has time is answered."""

import asyncio
from dataclasses import replace

import pytest

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from services.common.errors import MeshError, Reason
from services.common.schema import DataType
from tests.support.batcher_engine_fakes import FakeServer, Fleet, backend, echo, request, served
from tests.unit.batcher.engine_driving import (
    OPTIONS,
    always,
    begin,
    failure,
    guilty,
    new_engine,
    now_s,
    numbers,
    outcome,
)

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]
ONE = served()
TWO = served(backend("a:1"), backend("b:1"))


async def test_only_the_guilty_see_the_models_error(engine: Engine, server: FakeServer) -> None:
    server.answer = guilty(5, 20)
    outcomes = await asyncio.gather(*(outcome(engine, request(ONE, [number])) for number in range(32)))
    for number, one in enumerate(outcomes):
        if number in (5, 20):
            assert isinstance(one, MeshError)
            assert one.reason is Reason.MODEL_FAILED
            assert f"failed on this request: ValueError: {number}" in one.message
        else:
            assert one == [number]
    assert len(server.sent) <= 1 + 2 * 2 * 5, "halving costs a handful of calls for each of the guilty"


async def test_nobody_is_blamed_for_a_mate_that_has_left(engine: Engine, server: FakeServer) -> None:
    server.answer = guilty(1)
    calls = begin(engine, request(ONE, [0]), request(ONE, [1]))
    await asyncio.sleep(0.001)
    calls[1].cancel()
    assert numbers(await calls[0]) == [0]
    assert [sent.numbers for sent in server.sent] == [[0, 1], [0]]


async def test_a_row_of_a_split_request_fails_the_whole_and_nobody_else(engine: Engine, server: FakeServer) -> None:
    server.answer = guilty(7)
    version = served(batching=Batching(max_batch_size=4))
    whole = begin(engine, request(version, list(range(10))))[0]
    other = await outcome(engine, request(version, [50]))
    assert other == [50]
    with pytest.raises(MeshError, match="ValueError: 7"):
        await whole
    assert engine.depths()["m", "v1.0.0"].rows_waiting == 0


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (lambda rows, data: [], "output 'y' is missing"),
        (lambda rows, data: echo(rows + 1, data + b"\0" * 16), r"has shape \(\d, 2\) for \d rows"),
        (lambda rows, data: [replace(one, data=b"") for one in echo(rows, data)], "has 0 bytes"),
        (lambda rows, data: [replace(one, data_type=DataType.FP64) for one in echo(rows, data)], "schema says INT64"),
        (lambda rows, data: [Tensor(one.name, one.data_type, (*one.shape, 1), one.data) for one in echo(rows, data)],
         "has rows of shape"),
        (lambda rows, data: [Tensor(one.name, one.data_type, (), one.data) for one in echo(rows, data)], "shape"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_what_the_schema_promises(engine: Engine, server: FakeServer, outputs, why) -> None:  # type: ignore[no-untyped-def]
    server.answer = outputs
    for error in await asyncio.gather(*(failure(engine, request(ONE, [number])) for number in range(2))):
        assert error.reason is Reason.BACKEND_PROTOCOL
        with pytest.raises(MeshError, match=why):
            raise error


async def test_a_model_that_cannot_batch_is_asked_row_by_row(engine: Engine, server: FakeServer) -> None:
    server.answer = lambda rows, data: echo(1, data[:16])
    outcomes = await asyncio.gather(*(outcome(engine, request(ONE, [number])) for number in range(4)))
    assert outcomes == [[number] for number in range(4)]


async def test_a_model_that_died_by_chance_costs_nobody_an_answer(engine: Engine, server: FakeServer) -> None:
    answers = iter([always(FailureKind.CRASHED)])
    server.answer = lambda rows, data: next(answers, echo)(rows, data)
    assert await asyncio.gather(*(outcome(engine, request(ONE, [n])) for n in range(3))) == [[0], [1], [2]]
    assert [sent.rows for sent in server.sent] == [3, 3]


async def test_whoever_kills_the_model_is_found(engine: Engine, server: FakeServer) -> None:
    server.answer = guilty(3, kind=FailureKind.CRASHED)
    outcomes = await asyncio.gather(*(outcome(engine, request(ONE, [number])) for number in range(8)))
    assert [one for one in outcomes if isinstance(one, list)] == [[number] for number in range(8) if number != 3]
    assert isinstance(outcomes[3], MeshError)
    assert outcomes[3].reason is Reason.MODEL_FAILED


async def test_a_dead_server_costs_nobody_an_answer_while_another_lives(engine: Engine, fleet: Fleet) -> None:
    dead, alive = fleet.servers["a:1"], fleet.servers["b:1"]
    calls = begin(engine, *(request(TWO, [number]) for number in range(3)))
    await asyncio.sleep(0.001)
    dead.down = True
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[0], [1], [2]]
    assert [numbers(await engine.infer(request(TWO, [number]))) for number in range(5)] == [[n] for n in range(5)]
    assert len(dead.sent) == 1, "nothing goes where nobody answers"
    assert len(alive.sent) == 6


async def test_an_outage_is_ridden_out_by_those_who_have_time(engine: Engine, server: FakeServer) -> None:
    server.down = True
    asyncio.get_running_loop().call_later(1.0, setattr, server, "down", False)
    patient = begin(engine, request(ONE, [1]), request(ONE, [2]))
    await asyncio.sleep(0.1)
    hasty = await failure(engine, request(ONE, [3], deadline_s=0.5))
    assert hasty.reason is Reason.DEADLINE_TOO_SHORT
    assert now_s() == pytest.approx(0.5, abs=0.02)
    assert [numbers(result) for result in await asyncio.gather(*patient)] == [[1], [2]]
    assert now_s() == pytest.approx(1.57, abs=0.02), "sent as soon as the server answers a probe"
    assert server.probes <= 8, "the server is asked with growing pauses"
    assert len(server.sent) <= 4, "requests are not sent to a server that is known to be down"


async def test_whoever_is_late_in_an_outage_is_told_what_is_away_and_since_when(
    engine: Engine, server: FakeServer
) -> None:
    begin(engine, request(ONE, [1]))
    server.down = True
    error = await failure(engine, request(ONE, [2], deadline_s=1.5))
    assert error.reason is Reason.DEADLINE_TOO_SHORT
    why = "a:1: its server, a:1, does not answer, for 1.5 s now"
    assert error.metadata["backends"] == why
    for said in (
        f"no backend of version v1.0.0 of 'm' could be reached ({why})",
        "1500 ms",
        "`infermesh status`",
        "log",
    ):
        assert said in error.message
    assert "replicas" not in error.message
    assert error.retry_after_s == 1.0


@pytest.mark.parametrize("kind", [FailureKind.MISSING, FailureKind.OVERLOADED, FailureKind.GARBLED])
async def test_whoever_is_late_while_a_server_cannot_run_the_version_hears_the_servers_words(
    engine: Engine, server: FakeServer, kind: FailureKind
) -> None:
    server.answer = always(kind)
    error = await failure(engine, request(ONE, [1], deadline_s=0.3))
    if error.reason is Reason.DEADLINE_TOO_SHORT:
        assert "a:1: it cannot run the version, for 0.3 s now (told to fail)" in error.message
    else:
        assert error.reason is Reason.BACKEND_PROTOCOL, "what came back is no prediction: tried four times and no more"


async def test_whoever_is_late_while_a_backend_works_is_not_told_that_it_is_away(
    engine: Engine, server: FakeServer
) -> None:
    server.held = True
    for number in range(4):
        begin(engine, request(ONE, [number] * 32))
        await asyncio.sleep(0.001)
    error = await failure(engine, request(ONE, [9], deadline_s=0.5))
    assert "before a backend was free" in error.message
    assert "backends" not in error.metadata


async def test_whoever_follows_anothers_computation_hears_the_same_of_an_outage(
    engine: Engine, server: FakeServer
) -> None:
    server.down = True
    begin(engine, request(ONE, [1]))
    await asyncio.sleep(0.5)
    told = engine.late(request(ONE, [1]), 0.25)
    assert "a:1 does not answer, for 0.5 s now" in told.message.replace("a:1,", "a:1")
    assert "250 ms" in told.message
    server.down = False
    await asyncio.sleep(2.0)
    for version in (ONE, served(version="v9.0.0")):
        assert "while the model was running" in engine.late(request(version, [1]), 0.25).message


async def test_a_server_that_hangs_is_found_out_by_callers_who_never_wait_long(
    engine: Engine, server: FakeServer
) -> None:
    server.hung = True
    messages = [
        (await failure(engine, request(ONE, [number], deadline_s=now_s() + 0.6))).message for number in range(5)
    ]
    assert "while the model was running" in messages[0]
    assert "a:1, does not answer, for 1." in messages[-1]
    assert server.probes <= 4


async def test_a_server_that_is_busy_is_asked_at_most_once_a_second(engine: Engine, server: FakeServer) -> None:
    server.held = True
    for number in range(100):
        await failure(engine, request(ONE, [number], deadline_s=now_s() + 0.03))
    assert 1 <= server.probes <= 4


async def test_patience_ends_and_then_nobody_waits_in_vain(engine: Engine, server: FakeServer) -> None:
    server.down = True
    gone = await failure(engine, request(ONE, [1]))
    assert (gone.reason, gone.retry_after_s) == (Reason.BACKEND_UNAVAILABLE, 1.0)
    assert now_s() == pytest.approx(OPTIONS.outage_patience_s, abs=0.02)
    before_s = now_s()
    assert (await failure(engine, request(ONE, [2]))).reason is Reason.BACKEND_UNAVAILABLE
    assert now_s() == before_s
    server.down = False
    await asyncio.sleep(1.1)
    assert await outcome(engine, request(ONE, [3])) == [3]
    server.down = True
    again_s = now_s()
    assert (await failure(engine, request(ONE, [4]))).reason is Reason.BACKEND_UNAVAILABLE
    assert now_s() - again_s == pytest.approx(OPTIONS.outage_patience_s, abs=0.1), "a new outage, new patience"


async def test_a_model_that_is_not_there_yet_is_waited_for(engine: Engine, server: FakeServer) -> None:
    server.answer = always(FailureKind.MISSING)
    asyncio.get_running_loop().call_later(0.8, setattr, server, "answer", echo)
    assert await outcome(engine, request(ONE, [1])) == [1]
    assert 0.8 < now_s() < 1.7
    assert len(server.sent) <= 7, "it is asked with growing pauses"
    await asyncio.sleep(100)
    server.answer = always(FailureKind.MISSING)
    asyncio.get_running_loop().call_later(1.0, setattr, server, "answer", echo)
    assert await outcome(engine, request(ONE, [2])) == [2], "a new absence, new patience"


async def test_a_caller_that_leaves_while_its_batch_waits_for_another_try_takes_only_itself_along(
    engine: Engine, server: FakeServer
) -> None:
    server.answer = always(FailureKind.MISSING)
    calls = begin(engine, *(request(ONE, [number]) for number in range(3)))
    await asyncio.sleep(0.5)
    calls[1].cancel()
    server.answer = echo
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[1], asyncio.CancelledError)
    assert server.sent[-1].numbers == [0, 2]
    assert [numbers(one) for one in done if not isinstance(one, BaseException)] == [[0], [2]]


async def test_a_model_that_never_comes_ends_patience_and_is_found_when_it_comes(
    engine: Engine, server: FakeServer
) -> None:
    server.answer = always(FailureKind.MISSING)
    assert (await failure(engine, request(ONE, [1]))).reason is Reason.BACKEND_UNAVAILABLE
    assert now_s() == pytest.approx(OPTIONS.outage_patience_s, abs=0.02)
    await asyncio.sleep(60)
    began_s = now_s()
    assert (await failure(engine, request(ONE, [1]))).reason is Reason.BACKEND_UNAVAILABLE
    assert now_s() - began_s < 0.1, "one try says enough"
    server.answer = echo
    await asyncio.sleep(2)
    assert await outcome(engine, request(ONE, [2])) == [2]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(FailureKind.LOST, Reason.BACKEND_UNAVAILABLE), (FailureKind.GARBLED, Reason.BACKEND_PROTOCOL)],
)
async def test_what_may_have_run_is_tried_a_bounded_number_of_times(
    engine: Engine, server: FakeServer, kind: FailureKind, reason: Reason
) -> None:
    server.answer = always(kind)
    assert (await failure(engine, request(ONE, [1]))).reason is reason
    assert len(server.sent) == OPTIONS.attempts_max


async def test_whoever_breaks_the_server_takes_nobody_along(engine: Engine, server: FakeServer) -> None:
    server.answer = guilty(2, kind=FailureKind.LOST)
    outcomes = await asyncio.gather(*(outcome(engine, request(ONE, [number])) for number in range(4)))
    assert [one for one in outcomes if isinstance(one, list)] == [[0], [1], [3]]
    assert isinstance(outcomes[2], MeshError)
    assert outcomes[2].reason is Reason.BACKEND_UNAVAILABLE


async def test_retries_have_a_budget(fleet: Fleet, server: FakeServer) -> None:
    engine = new_engine(fleet, replace(OPTIONS, outage_patience_s=1000.0))
    await engine.start()
    server.answer = always(FailureKind.GARBLED)
    version = served(batching=Batching(max_batch_size=1))
    await asyncio.gather(*(failure(engine, request(version, [number])) for number in range(100)))
    assert len(server.sent) <= 100 + 20 + 0.2 * 100
    await engine.stop(0)


async def test_a_server_that_hangs_keeps_nobody_beyond_the_limit(fleet: Fleet, server: FakeServer) -> None:
    engine = new_engine(fleet, replace(OPTIONS, backend_timeout_s=1.5))
    await engine.start()
    server.held = True
    error = await failure(engine, request(ONE, [1]))
    assert error.reason is Reason.BACKEND_UNAVAILABLE
    assert "did not answer within 1.5 s" in error.message
    assert now_s() == pytest.approx(1.5, abs=0.02)
    server.held = False
    assert await outcome(engine, request(ONE, [2])) == [2]
    await engine.stop(0)


async def test_a_server_that_falls_silent_keeps_nobody_while_another_lives(engine: Engine, fleet: Fleet) -> None:
    silent, alive = fleet.servers["a:1"], fleet.servers["b:1"]
    silent.hung = True
    calls = begin(engine, *(request(TWO, [number], deadline_s=30.0) for number in range(3)))
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[0], [1], [2]]
    assert now_s() == pytest.approx(2.0 + alive.latency_s, abs=0.02), "noticed after a second, asked for another"
    assert silent.sent[0].aborted
    before_s = now_s()
    assert await asyncio.gather(*(outcome(engine, request(TWO, [n])) for n in range(9))) == [[n] for n in range(9)]
    assert now_s() - before_s < 0.1, "nothing goes where nobody answers"
    silent.hung = False
    await asyncio.sleep(3)
    assert await outcome(engine, request(ONE, [1])) == [1]


async def test_a_model_that_takes_long_on_a_server_that_answers_is_waited_for(engine: Engine, fleet: Fleet) -> None:
    for server in fleet.servers.values():
        server.latency_s = 5.0
    assert await asyncio.gather(*(outcome(engine, request(TWO, [n])) for n in range(3))) == [[0], [1], [2]]
    assert now_s() == pytest.approx(5.0)
    assert sum(len(server.sent) for server in fleet.servers.values()) == 1
    assert fleet.servers["a:1"].probes == 1


async def test_what_a_client_says_twice_counts_once(engine: Engine, server: FakeServer) -> None:
    version = served(batching=Batching(max_batch_size=1))
    server.held = True
    calls = begin(engine, *(request(version, [number]) for number in range(6)))
    await asyncio.sleep(0.001)
    first = server.waiting.popleft()
    for _ in range(3):
        server.reply(first)
        first.receiver.failed(BackendFailure(FailureKind.LOST, "again"))
    await asyncio.sleep(0.001)
    assert len(server.sent) == 3, "one slot is free, not six"
    assert server.probes == 0
    while server.waiting:
        server.release()
        await asyncio.sleep(0.001)
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[number] for number in range(6)]


async def test_the_faster_and_the_larger_server_get_more(engine: Engine, fleet: Fleet) -> None:
    fleet.servers["b:1"].latency_s = 0.1
    version = served(backend("a:1"), backend("b:1"), batching=Batching(max_batch_size=1))
    await asyncio.gather(*(engine.infer(request(version, [number])) for number in range(100)))
    assert len(fleet.servers["a:1"].sent) > 4 * len(fleet.servers["b:1"].sent) > 0


@pytest.mark.logs_errors
async def test_a_fault_of_our_own_still_answers_everybody(engine: Engine, server: FakeServer) -> None:
    def broken(rows: int, data: bytes) -> list[Tensor]:
        return [Tensor("y", DataType.INT64, (rows, 2), data), None]  # type: ignore[list-item]

    server.answer = broken
    assert (await failure(engine, request(ONE, [1]))).reason is Reason.INTERNAL
    server.answer = echo
    assert await outcome(engine, request(ONE, [2])) == [2]
