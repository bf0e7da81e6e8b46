"""Versions that are cold: whoever asks waits while one is loaded for all, and hears why where it cannot be."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from services.batcher.domain.activation import NoAnswerError
from services.batcher.domain.failure import FailureKind
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferResult
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.batcher.telemetry.activations import ActivationStats
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.night_view import lanes_part
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from tests.support.batcher_cold import FakeActivator, cold, table, warm
from tests.support.batcher_engine_fakes import Fleet, backend, request
from tests.unit.batcher.engine_driving import always, begin, failure, now_s, numbers, outcome

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

OPTIONS = EngineOptions(outage_patience_s=2.0)
NOT_DEPLOYED = MeshError(Reason.VERSION_NOT_DEPLOYED, "no deployment of it exists; deploy it", metadata={"team": "a"})


class Mesh:
    """An engine, its servers, and a deployer after whose loads the table lists the version at a:1."""

    def __init__(self, *, load_s: float = 0.3) -> None:
        self.fleet = Fleet("a:1", "b:1")
        self.server = self.fleet.servers["a:1"]
        self.deployer = FakeActivator(load_s=load_s)
        self.deployer.loaded = lambda version: self.engine.serve(table(warm(version=version)))
        self.stats = ActivationStats(LabelSets())
        self.engine = Engine(
            clock=LoopClock(datetime(2026, 1, 15, tzinfo=UTC)),
            open_client=self.fleet,
            options=OPTIONS,
            activator=self.deployer,
            cold_starts=self.stats,
        )

    async def start(self) -> "Mesh":
        await self.engine.start()
        self.engine.serve(table(cold()))
        return self

    def figures(self) -> dict[str, float]:
        """Every sample of the cold starts, by name and outcome."""
        samples = [sample for family in self.stats.collect() for sample in family.samples]
        return {f"{one.name}{one.labels.get('outcome', one.labels.get('le', ''))}": one.value for one in samples}


@pytest.fixture
async def mesh() -> Mesh:
    return await Mesh().start()


def told(tasks: Sequence["asyncio.Task[InferResult]"]) -> list[Reason]:
    errors = [task.exception() for task in tasks]
    assert all(isinstance(error, MeshError) for error in errors)
    return [error.reason for error in errors if isinstance(error, MeshError)]


async def test_a_thousand_requests_cause_one_load_and_a_thousand_answers(mesh: Mesh) -> None:
    calls = begin(mesh.engine, *(request(cold(), [number]) for number in range(1000)))
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[number] for number in range(1000)]
    assert mesh.deployer.calls == [(0.0, "v1.0.0")]
    assert mesh.server.sent[0].at_s == pytest.approx(0.3, abs=0.001), "sent as soon as the table says where"
    figures = mesh.figures()
    assert figures["batcher_activations_totalanswered"] == 1
    assert figures["batcher_activations_totalfailed"] == 0
    assert figures["batcher_cold_start_seconds_count"] == 1
    assert figures["batcher_cold_start_seconds_sum"] == pytest.approx(0.3, abs=0.001)
    assert figures["batcher_cold_start_seconds_bucket0.2"] == 0
    await mesh.engine.stop(0)


async def test_it_waits_for_a_load_longer_than_for_an_outage_and_until_its_own_deadline(mesh: Mesh) -> None:
    mesh.deployer.load_s = 25.0
    (patient,) = begin(mesh.engine, request(cold(), [1]))
    hasty = await failure(mesh.engine, request(cold(), [2], deadline_s=20.0))
    assert now_s() == pytest.approx(20.0, abs=0.02)
    assert hasty.reason is Reason.DEADLINE_TOO_SHORT
    assert (hasty.metadata["stage"], hasty.retry_after_s) == ("load", 1.0)
    assert "was not loaded, because nobody had asked for it lately, and it is being loaded, for 20.0 s" in hasty.message
    assert numbers(await patient) == [1]
    assert len(mesh.deployer.calls) == 1
    await mesh.engine.stop(0)


async def test_what_cannot_be_loaded_is_told_all_and_tried_again_after_a_while(mesh: Mesh) -> None:
    mesh.deployer.outcome = NOT_DEPLOYED
    calls = begin(mesh.engine, *(request(cold(), [number], tenant=str(number % 3)) for number in range(50)))
    calls += begin(mesh.engine, request(cold(), list(range(100)), priority=Priority.BACKGROUND))
    await asyncio.sleep(0.31)
    assert told(calls) == [Reason.VERSION_NOT_DEPLOYED] * 51
    error = calls[0].exception()
    assert isinstance(error, MeshError)
    assert error.message == (
        "version v1.0.0 of 'm' is not loaded, and loading it failed: no deployment of it exists; deploy it; it is "
        "tried again for whoever asks in 2.0 s"
    )
    assert (error.metadata, error.retry_after_s) == ({"team": "a", "model": "m", "version": "v1.0.0"}, None)
    await asyncio.sleep(1.0)
    at_once = await failure(mesh.engine, request(cold(), [1]))
    assert at_once.reason is Reason.VERSION_NOT_DEPLOYED
    assert now_s() == pytest.approx(1.31, abs=0.001)
    assert "again for whoever asks in 1.0 s" in at_once.message
    assert len(mesh.deployer.calls) == 1
    await asyncio.sleep(1.0)
    mesh.deployer.outcome = None
    assert await outcome(mesh.engine, request(cold(), [7])) == [7]
    assert len(mesh.deployer.calls) == 2
    assert mesh.figures()["batcher_activations_totalfailed"] == 1
    await mesh.engine.stop(0)


async def test_a_deployer_that_says_when_to_come_back_is_repeated(mesh: Mesh) -> None:
    mesh.deployer.outcome = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "no Triton answers", retry_after_s=0.5)
    error = await failure(mesh.engine, request(cold(), [1]))
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert error.retry_after_s == pytest.approx(2.0)
    await mesh.engine.stop(0)


async def test_a_deployer_that_is_away_is_asked_again_with_growing_pauses_while_somebody_waits(mesh: Mesh) -> None:
    mesh.deployer.load_s, mesh.deployer.outcome = 0.0, NoAnswerError("connection refused")
    (patient,) = begin(mesh.engine, request(cold(), [1]))
    hasty = await failure(mesh.engine, request(cold(), [2], deadline_s=5.0))
    assert "the deployer, who loads it, has not answered for 5.0 s" in hasty.message
    assert [at_s for at_s, _ in mesh.deployer.calls] == pytest.approx([0.0, 0.1, 0.3, 0.7, 1.5, 3.1])
    mesh.deployer.outcome = None
    assert numbers(await patient) == [1]
    assert now_s() == pytest.approx(5.11, abs=0.001)
    assert mesh.figures()["batcher_activations_totalfailed"] == 0
    await mesh.engine.stop(0)


async def test_nobody_asks_a_deployer_that_is_away_for_those_who_have_gone(mesh: Mesh) -> None:
    mesh.deployer.load_s, mesh.deployer.outcome = 0.0, NoAnswerError("connection refused")
    assert (await failure(mesh.engine, request(cold(), [1], deadline_s=1.0))).reason is Reason.DEADLINE_TOO_SHORT
    await asyncio.sleep(100)
    assert len(mesh.deployer.calls) == 4
    mesh.deployer.outcome = None
    assert await outcome(mesh.engine, request(cold(), [2], deadline_s=now_s() + 5)) == [2]
    assert now_s() < 101.1, "who comes after a silence does not wait for it"
    await mesh.engine.stop(0)


async def test_a_caller_who_leaves_harms_nobody_and_the_load_goes_on(mesh: Mesh) -> None:
    calls = begin(mesh.engine, *(request(cold(), [number]) for number in range(3)))
    await asyncio.sleep(0.1)
    calls[0].cancel()
    assert [numbers(result) for result in await asyncio.gather(*calls[1:])] == [[1], [2]]
    assert [sent.numbers for sent in mesh.server.sent] == [[1, 2]]
    await mesh.engine.stop(0)


async def test_who_comes_after_all_have_left_is_not_left_waiting_for_them(mesh: Mesh) -> None:
    mesh.deployer.outcome = NoAnswerError("connection refused")
    (call,) = begin(mesh.engine, request(cold(), [0]))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.sleep(5)
    mesh.deployer.outcome = None
    assert await outcome(mesh.engine, request(cold(), [1])) == [1]
    assert now_s() == pytest.approx(5.1 + 0.31, abs=0.01)
    await mesh.engine.stop(0)


async def test_a_shadow_copy_loads_nothing(mesh: Mesh) -> None:
    error = await failure(mesh.engine, request(cold(), [1], priority=Priority.SHADOW))
    assert (error.reason, error.metadata["cold"]) == (Reason.BACKEND_UNAVAILABLE, "true")
    (held,) = begin(mesh.engine, request(cold(), [2]))
    await asyncio.sleep(0.1)
    assert (await failure(mesh.engine, request(cold(), [3], priority=Priority.SHADOW))).metadata["cold"] == "true"
    assert numbers(await held) == [2]
    assert await outcome(mesh.engine, request(cold(), [4], priority=Priority.SHADOW)) == [4]
    await mesh.engine.stop(0)


async def test_shadow_copies_that_wait_as_their_version_goes_cold_are_told_so(mesh: Mesh) -> None:
    mesh.engine.serve(table(warm()))
    mesh.server.held, mesh.server.answer = True, always(FailureKind.MISSING)
    callers = begin(mesh.engine, request(warm(), [1]))
    await asyncio.sleep(0.001)
    copies = begin(mesh.engine, request(warm(), [2], priority=Priority.SHADOW))
    await asyncio.sleep(0.001)
    callers[0].cancel()
    mesh.engine.serve(table(cold()))
    await asyncio.sleep(0.001)
    assert told(copies) == [Reason.BACKEND_UNAVAILABLE]
    mesh.server.release()
    await asyncio.sleep(1)
    assert mesh.deployer.calls == []
    await mesh.engine.stop(0)


@pytest.mark.parametrize("priority", [Priority.EXPLANATION, Priority.BACKGROUND])
async def test_explanations_and_batch_jobs_have_it_loaded(mesh: Mesh, priority: Priority) -> None:
    assert await outcome(mesh.engine, request(cold(), [1], priority=priority)) == [1]
    assert len(mesh.deployer.calls) == 1
    await mesh.engine.stop(0)


async def test_it_goes_cold_and_comes_back_again_and_again(mesh: Mesh) -> None:
    for round_ in range(5):
        began_s = now_s()
        calls = begin(mesh.engine, *(request(cold(), [number]) for number in range(100)))
        results = await asyncio.gather(*calls)
        assert [numbers(result) for result in results] == [[number] for number in range(100)]
        assert len(mesh.deployer.calls) == round_ + 1
        assert mesh.server.sent[-1].at_s < began_s + 0.35, "nothing of before holds it up"
        mesh.engine.serve(table(cold()))
        await asyncio.sleep(1)
    await mesh.engine.stop(0)


async def test_a_rest_of_before_is_over_when_it_was_loaded_anew(mesh: Mesh) -> None:
    mesh.engine.serve(table(warm(backend("a:1"), backend("b:1"))))
    for server in mesh.fleet.servers.values():
        server.answer = always(FailureKind.MISSING)
    calls = begin(mesh.engine, request(warm(), [1]))
    await asyncio.sleep(1.5)
    mesh.engine.serve(table(cold()))
    for server in mesh.fleet.servers.values():
        server.answer = Fleet("c:1").servers["c:1"].answer
    assert numbers(await calls[0]) == [1]
    assert now_s() == pytest.approx(1.5 + 0.31, abs=0.001)
    await mesh.engine.stop(0)


async def test_batches_on_their_way_as_it_goes_cold_finish_or_wait_for_it_to_be_loaded(mesh: Mesh) -> None:
    mesh.engine.serve(table(warm()))
    mesh.server.held = True
    one = warm()
    calls = begin(mesh.engine, request(one, [1]))
    await asyncio.sleep(0.001)
    calls += begin(mesh.engine, request(one, [2]))
    await asyncio.sleep(0.001)
    mesh.engine.serve(table(cold()))
    mesh.server.release()
    mesh.server.answer, answer = always(FailureKind.MISSING), mesh.server.answer
    mesh.server.release()
    await asyncio.sleep(0.001)
    mesh.server.answer, mesh.server.held = answer, False
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[1], [2]]
    assert len(mesh.deployer.calls) == 1
    await mesh.engine.stop(0)


async def test_the_table_may_come_before_the_deployers_answer(mesh: Mesh) -> None:
    mesh.deployer.load_s = 3.0
    (call,) = begin(mesh.engine, request(cold(), [1]))
    await asyncio.sleep(1.0)
    mesh.engine.serve(table(warm()))
    assert numbers(await call) == [1]
    assert now_s() == pytest.approx(1.01)
    mesh.engine.serve(table(cold()))
    mesh.deployer.load_s = 0.1
    assert await outcome(mesh.engine, request(cold(), [2])) == [2], "a call about the past is waited for by nobody"
    assert now_s() == pytest.approx(1.12, abs=0.001)
    assert (len(mesh.deployer.calls), mesh.deployer.given_up) == (2, 1)
    await mesh.engine.stop(0)


async def test_a_failure_that_comes_after_the_table_harms_nobody(mesh: Mesh) -> None:
    mesh.deployer.outcome = NOT_DEPLOYED
    mesh.server.held = True
    calls = begin(mesh.engine, *(request(cold(), [number] * 32) for number in range(9)))
    await asyncio.sleep(0.2)
    mesh.engine.serve(table(warm()))
    await asyncio.sleep(0.2)
    mesh.server.held = False
    while mesh.server.waiting:
        mesh.server.release()
    assert [numbers(result) for result in await asyncio.gather(*calls)] == [[number] * 32 for number in range(9)]
    await mesh.engine.stop(0)


async def test_the_table_may_come_after_the_deployers_answer(mesh: Mesh) -> None:
    mesh.deployer.loaded = lambda _: None
    (call,) = begin(mesh.engine, request(cold(), [1]))
    await asyncio.sleep(5.0)
    assert mesh.engine.holds() == {
        ("m", "v1.0.0"): "it is loaded, and the serving table does not say where, for 4.7 s now"
    }
    assert "the serving table does not say where" in str(lanes_part(mesh.engine, now_s()))
    mesh.engine.serve(table(warm()))
    assert numbers(await call) == [1]
    assert now_s() == pytest.approx(5.01)
    assert len(mesh.deployer.calls) == 1
    assert mesh.engine.holds() == {}
    await mesh.engine.stop(0)


async def test_a_table_that_never_comes_has_the_deployer_asked_again(mesh: Mesh) -> None:
    mesh.deployer.loaded = lambda _: None
    calls = begin(mesh.engine, request(cold(), [1], deadline_s=35))
    await asyncio.sleep(40)
    assert [at_s for at_s, _ in mesh.deployer.calls] == pytest.approx([0.0, 10.3, 20.6, 30.9])
    assert told(calls) == [Reason.DEADLINE_TOO_SHORT]
    await mesh.engine.stop(0)


async def test_a_version_that_leaves_the_table_hears_what_the_deployer_says(mesh: Mesh) -> None:
    calls = begin(mesh.engine, request(cold(), [1]))
    await asyncio.sleep(0.1)
    mesh.deployer.outcome = NOT_DEPLOYED
    mesh.engine.serve(table())
    await asyncio.sleep(0.3)
    assert told(calls) == [Reason.VERSION_NOT_DEPLOYED]
    mesh.engine.serve(table())
    assert list(mesh.engine.depths()) == []
    await mesh.engine.stop(0)


async def test_a_stop_gives_up_the_load_and_answers_everybody(mesh: Mesh) -> None:
    mesh.deployer.load_s = 100.0
    calls = begin(mesh.engine, *(request(cold(), [number]) for number in range(3)))
    await asyncio.sleep(0.1)
    await mesh.engine.stop(drain_s=1.0)
    assert now_s() == pytest.approx(1.1)
    assert mesh.deployer.under_way == []
    await asyncio.sleep(0)
    assert told(calls) == [Reason.SHUTTING_DOWN] * 3


@pytest.mark.logs_errors
async def test_a_fault_of_our_own_leaves_nobody_waiting(mesh: Mesh) -> None:
    mesh.deployer.outcome = ValueError("a bug")
    error = await failure(mesh.engine, request(cold(), [1]))
    assert error.reason is Reason.INTERNAL
    await mesh.engine.stop(0)


async def test_without_a_deployer_it_says_so(mesh: Mesh) -> None:
    await mesh.engine.stop(0)
    engine = Engine(clock=LoopClock(datetime(2026, 1, 15, tzinfo=UTC)), open_client=Fleet("a:1"), options=OPTIONS)
    await engine.start()
    error = await failure(engine, request(cold(), [1]))
    assert error.reason is Reason.BACKEND_UNAVAILABLE
    assert "knows of nobody who loads" in error.message
    await engine.stop(0)


async def test_bounds_hold_while_it_is_loaded(mesh: Mesh) -> None:
    mesh.deployer.load_s = 5.0
    version = cold()
    many = begin(mesh.engine, *(request(version, [1] * 1000) for _ in range(20)))
    await asyncio.sleep(0.1)
    full = await failure(mesh.engine, request(version, [2]))
    assert (full.reason, full.metadata["limit"]) == (Reason.QUEUE_FULL, "rows")
    await asyncio.gather(*many)
    assert version.batching == Batching()
    await mesh.engine.stop(0)
