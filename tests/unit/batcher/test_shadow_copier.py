"""Copies of answered requests: who gets which, what becomes of them, and what they may never do."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from services.batcher.domain.cached import CachedAnswer, CacheOutcome
from services.batcher.domain.log_detail import Detail
from services.batcher.domain.priority import Priority
from services.batcher.domain.refusals import not_for_copies
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.row_labels import RowLabels
from services.batcher.domain.serving import ServedModel, ServedVersion, ServingTable, ShadowComparison, ShadowTarget
from services.batcher.domain.shadow_choice import place_of
from services.batcher.domain.shadow_sums import PairSums
from services.batcher.engines.features import Features
from services.batcher.faces.call import Call
from services.batcher.faces.catalog import Catalog
from services.batcher.faces.copier import AT_ONCE_MAX, ShadowCopier
from services.batcher.faces.core import Core
from services.batcher.faces.ports import FinishedCopy
from services.batcher.faces.reasons import REASON_NUMBERS
from services.batcher.faces.spare import BUSY_SHARE, SpareTime
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.shadow_families import shadow_metrics
from services.common.clock import LoopClock
from services.common.errors import Code, MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import answer, tensor_of

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

ONE_HOT = [tuple(0.9 if place == label else 0.05 for place in range(3)) for label in range(3)]
Answering = Callable[[InferRequest], InferResult]


def version(number: str, *, width: int = 2) -> ServedVersion:
    schema = ModelSchema(
        (TensorSpec("x", DataType.FP32, (width,)),),
        (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (3,))),
    )
    mapping = PredictionMapping("label", "probabilities", ("zero", "one", "two"))
    return ServedVersion("digits", number, f"main-{number}", schema, mapping=mapping)


def says(label: int) -> Answering:
    """Every row has this class."""
    return lambda request: answer([label] * request.rows, *[ONE_HOT[label]] * request.rows)


class Versions:
    """An engine in which each version answers as told, after `delay_s`."""

    def __init__(self) -> None:
        self.answers: dict[str, Answering | MeshError] = {}
        self.delay_s: dict[str, float] = {}
        self.asked: list[InferRequest] = []
        self.under_way = 0
        self.most = 0

    async def infer(self, request: InferRequest) -> InferResult:
        """As the engine does."""
        self.asked.append(request)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.delay_s.get(request.served.version, 0.0))
        finally:
            self.under_way -= 1
        told = self.answers.get(request.served.version, says(1))
        if isinstance(told, MeshError):
            raise told
        return told(request)

    def copies(self, version: str) -> list[InferRequest]:
        """What a version was sent as copies."""
        return [one for one in self.asked if one.served.version == version and one.priority is Priority.SHADOW]


class Noted:
    """A request log in memory."""

    def __init__(self) -> None:
        self.calls: list[tuple[Call, Detail | None]] = []
        self.copies: list[FinishedCopy] = []

    def add(self, call: Call, *, ended_s: float, code: int, reason: int, detail: Detail | None = None) -> None:
        """Notes a request."""
        self.calls.append((call, detail))

    def add_copy(self, copy: FinishedCopy) -> None:
        """Notes a copy."""
        self.copies.append(copy)


class Mesh:
    """The core with a copier, over versions that answer as told."""

    def __init__(self, *shadows: ShadowTarget, log_labels: bool = False, copies_max: int = 128) -> None:
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.versions, self.log, self.catalog = Versions(), Noted(), Catalog()
        self.wants = 0.0
        """The share of a processor that the thread wants."""
        self.spare = SpareTime(clock=self.clock, wanted_s=lambda: self.wants * self.clock.monotonic())
        self.copier = ShadowCopier(
            engine=self.versions,
            catalog=self.catalog,
            request_log=self.log,
            clock=self.clock,
            spare=self.spare,
            copies_max=copies_max,
            bytes_max=64 * 1024,
            timeout_s=5.0,
        )
        self.core = Core(
            catalog=self.catalog,
            engine=self.versions,
            features=Features(stores={}, clock=self.clock),
            request_log=self.log,
            copier=self.copier,
            clock=self.clock,
            deadline_default_s=30.0,
            deadline_max_s=60.0,
        )
        self.serve(*shadows, log_labels=log_labels)

    def serve(self, *shadows: ShadowTarget, log_labels: bool = False, versions: tuple[ServedVersion, ...] = ()) -> None:
        """What is served from now on: v1.0.0 by default, v2.0.0, v3.0.0."""
        served = versions or (version("v1.0.0"), version("v2.0.0"), version("v3.0.0"))
        model = ServedModel(
            "digits", "v1.0.0", {one.version: one for one in served}, shadows=shadows, log_labels=log_labels
        )
        self.catalog.apply(ServingTable(self.catalog.table.revision + 1, {"digits": model}))

    async def predict(
        self, request_id: str = "", *, rows: int = 1, headers: dict[bytes, bytes] | None = None, asked: str = ""
    ) -> Call:
        """One request through the core, as the faces have it answered."""
        said = headers or {}
        call = Call(said, arrived_s=self.clock.monotonic(), caller=self.core.callers.of(said, 0.0))
        self.core.begin(call)
        try:
            plan = self.core.resolve(call, "digits", asked)
            call.name_request(request_id)
            tensor = tensor_of("x", DataType.FP32, (rows, 2), [0.5] * (2 * rows))
            await self.core.infer(call, rows=rows, inputs=(tensor,), outputs=plan.outputs.needed)
            self.core.succeeded(call)
        except MeshError as error:
            self.core.failed(call, error, face="test")
        finally:
            self.core.end(call)
        return call

    def sums(self) -> dict[tuple[str, str], PairSums]:
        """By shadow version and primary version, once."""
        taken = self.copier.take_sums()
        return {
            (plan.served.version, primary): sums for plan, pairs in taken.items() for primary, sums in pairs.items()
        }


@asynccontextmanager
async def running(mesh: Mesh) -> AsyncIterator[Mesh]:
    task = asyncio.create_task(mesh.copier.run())
    yield mesh
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert mesh.versions.under_way == 0
    mesh.copier.close()
    assert mesh.copier.shown()["on_their_way"] == 0
    assert mesh.copier.shown()["bytes"] == 0


async def test_a_copy_follows_the_answer_and_is_compared() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.delay_s["v2.0.0"] = 2.0
        call = await mesh.predict("mine", headers={b"x-infermesh-team": b"vision", b"x-infermesh-user": b"ann"})
        assert mesh.clock.monotonic() == 0.0
        assert not mesh.versions.copies("v2.0.0"), "the answer leaves before its copy"
        await asyncio.sleep(3)
        (copy,) = mesh.versions.copies("v2.0.0")
        assert call.request is not None
        assert (copy.request_id, copy.tenant, copy.inputs) == ("mine", "vision", call.request.inputs)
        assert copy.deadline_s == 5.0
        (noted,) = mesh.log.copies
        assert (noted.plan.served.version, noted.user, noted.team, noted.rows) == ("v2.0.0", "ann", "vision", 1)
        assert (noted.code, noted.took_s) == (0, 2.0)
        assert mesh.sums() == {("v2.0.0", "v1.0.0"): PairSums(compared=1)}
        assert mesh.sums() == {}


async def test_what_disagrees_is_shown_a_few_times_and_counted_always() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100, ShadowComparison("label")))) as mesh:
        mesh.versions.answers["v2.0.0"] = says(2)
        for number in range(6):
            await mesh.predict(f"r{number}", rows=3)
            await asyncio.sleep(0.1)
        (sums,) = mesh.sums().values()
        assert (sums.compared, sums.disagreed, len(sums.examples)) == (6, 6, 3)
        first = sums.examples[0]
        assert (first.request_id, first.row, first.answered_s) == ("r0", 0, 0.0)
        assert first.difference == pytest.approx(0.85)
        assert json.loads(first.primary_output) == {"label": 1, "probabilities": [0.05, 0.9, 0.05]}
        assert json.loads(first.shadow_output) == {"label": 2, "probabilities": [0.05, 0.05, 0.9]}
        await mesh.predict("r7")
        await asyncio.sleep(0.1)
        (sums,) = mesh.sums().values()
        assert (sums.compared, len(sums.examples)) == (1, 1)
        metrics = next(iter(shadow_metrics(mesh.copier.counts, LabelSets())()))
        assert {sample.labels["result"]: sample.value for sample in metrics.samples} == {
            "sent": 7, "answered": 7, "failed": 0, "disagreed": 7, "dropped": 0
        }  # fmt: skip


async def test_each_shadow_version_gets_the_same_requests_and_none_of_its_own() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 20), ShadowTarget("v3.0.0", 60))) as mesh:
        ids = [f"request {number}" for number in range(200)]
        for at, name in enumerate(ids):
            await mesh.predict(name, asked="v3.0.0" if at % 2 else "")
            await asyncio.sleep(0.01)
        got = {name: [one.request_id for one in mesh.versions.copies(name)] for name in ("v2.0.0", "v3.0.0")}
        assert got["v2.0.0"] == [name for name in ids if place_of(name) < 20]
        assert got["v3.0.0"] == [name for at, name in enumerate(ids) if place_of(name) < 60 and not at % 2]
        assert set(mesh.sums()) == {("v2.0.0", "v1.0.0"), ("v2.0.0", "v3.0.0"), ("v3.0.0", "v1.0.0")}


@pytest.mark.parametrize(
    "headers", [{b"x-mesh-shadow": b"1"}, {b"x-priority": b"background"}], ids=["a copy", "a row of a batch job"]
)
async def test_copies_and_batch_jobs_are_not_copied(headers: dict[bytes, bytes]) -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        await mesh.predict(headers=headers)
        await asyncio.sleep(1)
        assert not mesh.versions.copies("v2.0.0")
        await mesh.predict(headers={b"x-envoy-attempt-count": b"2"})
        await asyncio.sleep(1)
        assert len(mesh.versions.copies("v2.0.0")) == 1, "a retry is answered like any request"


async def test_requests_that_failed_are_not_copied() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.answers["v1.0.0"] = MeshError(Reason.MODEL_FAILED, "no")
        await mesh.predict()
        await asyncio.sleep(1)
        assert not mesh.versions.copies("v2.0.0")
        assert mesh.sums() == {}


async def test_a_shadow_version_that_takes_other_tensors_fails_with_that() -> None:
    async with running(Mesh()) as mesh:
        mesh.serve(ShadowTarget("v2.0.0", 100), versions=(version("v1.0.0"), version("v2.0.0", width=3)))
        await mesh.predict()
        await asyncio.sleep(1)
        assert not mesh.versions.copies("v2.0.0")
        (sums,) = mesh.sums().values()
        assert sums.failed == {Reason.SCHEMA_VIOLATION: 1}
        (noted,) = mesh.log.copies
        assert (noted.code, noted.reason) == (Code.INVALID_ARGUMENT, REASON_NUMBERS[Reason.SCHEMA_VIOLATION])


@pytest.mark.parametrize(
    ("error", "failed", "dropped"),
    [
        (MeshError(Reason.MODEL_FAILED, "it failed"), {Reason.MODEL_FAILED: 1}, 0),
        (MeshError(Reason.DEADLINE_TOO_SHORT, "", metadata={"running_ms": "3000"}), {Reason.DEADLINE_TOO_SHORT: 1}, 0),
        (MeshError(Reason.DEADLINE_TOO_SHORT, "", metadata={"running_ms": "200"}), {}, 1),
        (MeshError(Reason.DEADLINE_TOO_SHORT, "", metadata={"stage": "queue"}), {}, 1),
        (MeshError(Reason.DEADLINE_TOO_SHORT, "", metadata={"backends": "away"}), {Reason.BACKEND_UNAVAILABLE: 1}, 0),
        (MeshError(Reason.QUEUE_FULL, "full"), {}, 1),
        (MeshError(Reason.BACKEND_UNAVAILABLE, "away"), {Reason.BACKEND_UNAVAILABLE: 1}, 0),
        (not_for_copies("digits", "v2.0.0"), {}, 1),
    ],
)
async def test_what_was_sent_and_not_answered_failed_and_what_was_never_sent_was_dropped(
    error: MeshError, failed: dict[Reason, int], dropped: int
) -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.answers["v2.0.0"] = error
        await mesh.predict()
        await asyncio.sleep(1)
        (sums,) = mesh.sums().values()
        assert (sums.failed, sums.dropped, sums.compared) == (failed, dropped, 0)
        assert [REASON_NUMBERS[reason] for reason in failed] == [copy.reason for copy in mesh.log.copies]


async def test_a_cold_version_gets_no_copies_until_it_is_loaded() -> None:
    async with running(Mesh()) as mesh:
        shadow = ShadowTarget("v2.0.0", 100)
        mesh.serve(shadow, versions=(version("v1.0.0"), replace(version("v2.0.0"), cold=True)))
        await mesh.predict()
        await asyncio.sleep(1)
        assert not mesh.versions.copies("v2.0.0")
        assert mesh.sums() == {("v2.0.0", "v1.0.0"): PairSums(dropped=1)}
        mesh.serve(shadow)
        await mesh.predict()
        await asyncio.sleep(1)
        assert len(mesh.versions.copies("v2.0.0")) == 1, "it does not rest"


@pytest.mark.logs_errors
async def test_a_fault_of_our_own_harms_one_copy_alone() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        broken = Tensor("probabilities", DataType.FP32, (1, 3), b"too short")
        mesh.versions.answers["v2.0.0"] = lambda _request: InferResult((broken,))
        await mesh.predict()
        await asyncio.sleep(1)
        mesh.versions.answers["v2.0.0"] = says(1)
        await mesh.predict()
        await asyncio.sleep(1)
        (sums,) = mesh.sums().values()
        assert (sums.failed, sums.compared) == ({Reason.INTERNAL: 1}, 1)
        assert [(one.answered, one.failed) for one in mesh.copier.counts().values()] == [(1, 1)]


async def test_a_slow_version_holds_what_it_may_and_leaves_room_for_others() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100), ShadowTarget("v3.0.0", 100), copies_max=30)) as mesh:
        mesh.versions.delay_s["v2.0.0"] = 1000.0
        for _ in range(200):
            await mesh.predict()
            await asyncio.sleep(0.01)
        sums = mesh.sums()
        assert sums["v3.0.0", "v1.0.0"].compared == 200
        assert 200 - sums["v2.0.0", "v1.0.0"].dropped == 15, "alone, it may hold half"
        assert len(mesh.versions.copies("v2.0.0")) == 15
        assert sum(call.answered for call, _ in mesh.log.calls) == 200


async def test_bytes_have_a_bound_too_and_large_requests_are_not_copied() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.delay_s["v2.0.0"] = 1000.0
        await mesh.predict(rows=200)
        for _ in range(40):
            await mesh.predict(rows=100)
        await asyncio.sleep(1)
        held = mesh.copier.shown()["bytes"]
        assert isinstance(held, int)
        assert 60 * 1024 < held <= 64 * 1024
        (sums,) = mesh.sums().values()
        assert sums.dropped == 1 + 40 - held // 2800


async def test_a_copy_does_not_keep_the_answer_of_its_whole_batch_alive() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.delay_s["v2.0.0"] = 1.0
        one_row = InferRequest(version("v1.0.0"), 1, (), 0.0)
        batch = b"".join(tensor.data for tensor in says(1)(one_row).outputs) + bytes(1_000_000)

        def views(_request: InferRequest) -> InferResult:
            view = memoryview(batch)
            label = Tensor("label", DataType.INT64, (1,), view[:8])
            return InferResult((label, Tensor("probabilities", DataType.FP32, (1, 3), view[8:20])))

        mesh.versions.answers["v1.0.0"] = views
        unheld = sys.getrefcount(batch)
        call = await mesh.predict()
        call.result = None
        await asyncio.sleep(0.5)
        assert mesh.copier.shown()["on_their_way"] == 1
        assert sys.getrefcount(batch) == unheld
        await asyncio.sleep(1)
        (sums,) = mesh.sums().values()
        assert (sums.compared, sums.disagreed) == (1, 0)


async def test_a_version_that_nothing_can_run_is_asked_again_after_growing_pauses() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.answers["v2.0.0"] = MeshError(Reason.BACKEND_UNAVAILABLE, "away")
        for _ in range(1000):
            await mesh.predict()
            await asyncio.sleep(0.01)
        assert 6 <= len(mesh.versions.copies("v2.0.0")) <= 10, "of a thousand in ten seconds"
        mesh.versions.answers["v2.0.0"] = says(1)
        await asyncio.sleep(10)
        for _ in range(10):
            await mesh.predict()
            await asyncio.sleep(0.01)
        (sums,) = mesh.sums().values()
        assert sums.compared == 10


async def test_copies_that_fail_together_are_one_failure() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.answers["v2.0.0"] = MeshError(Reason.BACKEND_UNAVAILABLE, "away")
        mesh.versions.delay_s["v2.0.0"] = 0.01
        for _ in range(AT_ONCE_MAX + 8):
            await mesh.predict()
        await asyncio.sleep(0.15)
        mesh.versions.answers["v2.0.0"] = says(1)
        await mesh.predict()
        await asyncio.sleep(0.1)
        (sums,) = mesh.sums().values()
        assert (sums.failed, sums.compared) == ({Reason.BACKEND_UNAVAILABLE: AT_ONCE_MAX}, 1)
        assert sums.dropped == 8, "what had not been sent by then"


async def test_a_version_that_is_too_late_rests_for_as_long_as_it_may_still_run() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.answers["v2.0.0"] = MeshError(Reason.DEADLINE_TOO_SHORT, "", metadata={"running_ms": "5000"})
        mesh.versions.delay_s["v2.0.0"] = 5.0
        for _ in range(30):
            await mesh.predict()
            await asyncio.sleep(1)
        sent = len(mesh.versions.copies("v2.0.0"))
        assert sent <= 5 + 5 + 5, "while five seconds are over, and then ten"


async def test_a_thread_that_has_no_time_sends_no_copies_until_it_has() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.wants = BUSY_SHARE + 0.05
        for _ in range(100):
            await mesh.predict()
            await asyncio.sleep(0.01)
        assert len(mesh.versions.copies("v2.0.0")) <= 2, "those before it was measured"
        assert mesh.copier.shown()["thread_wants"] == pytest.approx(BUSY_SHARE + 0.05, abs=0.01)
        (sums,) = mesh.sums().values()
        assert sums.dropped > 30
        mesh.wants = 0.0
        await asyncio.sleep(1)
        assert len(mesh.versions.copies("v2.0.0")) > 60


async def test_a_drain_drops_copies_at_once() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.delay_s["v2.0.0"] = 1000.0
        for _ in range(AT_ONCE_MAX + 10):
            await mesh.predict()
        await asyncio.sleep(1)
        assert mesh.versions.under_way == AT_ONCE_MAX
        mesh.copier.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert mesh.versions.under_way == 0
        await mesh.predict()
        await asyncio.sleep(1)
        assert len(mesh.versions.copies("v2.0.0")) == AT_ONCE_MAX
        (sums,) = mesh.sums().values()
        assert sums.dropped == AT_ONCE_MAX + 10, "those that waited and those under way"


async def test_a_version_that_is_served_no_more_gets_none_of_what_waited_for_it() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        await mesh.predict()
        mesh.serve(versions=(version("v1.0.0"),))
        await asyncio.sleep(1)
        assert not mesh.versions.copies("v2.0.0")
        assert mesh.sums() == {}


async def test_copies_are_never_answered_by_the_cache() -> None:
    class Cache:
        asked = 0

        async def infer(self, request: InferRequest) -> CachedAnswer:
            self.asked += 1
            return CachedAnswer(says(1)(request), CacheOutcome.HIT)

    mesh = Mesh()
    cache = mesh.core._cache = cast("object", Cache())  # type: ignore[assignment]
    sure = [
        ServedVersion("digits", name, "main", version(name).schema, version(name).mapping, deterministic=True)
        for name in ("v1.0.0", "v2.0.0")
    ]
    mesh.serve(ShadowTarget("v2.0.0", 100), versions=tuple(sure))
    async with running(mesh):
        await mesh.predict()
        await asyncio.sleep(1)
        assert cache.asked == 1  # type: ignore[attr-defined]
        assert len(mesh.versions.copies("v2.0.0")) == 1, "what the cache answered is copied as well"


async def test_labels_are_noted_for_requests_and_copies_where_the_model_asks_for_them() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100), log_labels=True)) as mesh:
        mesh.versions.answers["v2.0.0"] = says(2)
        await mesh.predict(rows=2)
        await asyncio.sleep(1)
        mesh.serve(ShadowTarget("v2.0.0", 100))
        await mesh.predict()
        await asyncio.sleep(1)
        assert [detail for _, detail in mesh.log.calls] == [Detail(RowLabels(classes=["one", "one"])), None]
        assert [copy.detail for copy in mesh.log.copies] == [Detail(RowLabels(classes=["two", "two"])), None]
