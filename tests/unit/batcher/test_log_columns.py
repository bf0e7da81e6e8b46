"""The prediction log's chunks: their columns, their bound, and what is sent again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import grpc
import pytest
from infermesh.monitor.v1 import prediction_log_pb2 as pb

from services.batcher.adapters.prediction_log import PredictionLog
from services.batcher.domain.log_detail import Detail
from services.batcher.domain.outputs import RowScores
from services.batcher.domain.row_labels import RowLabels
from services.batcher.domain.shadow_sums import Example, PairSums
from services.batcher.faces.call import Call
from services.batcher.faces.caller import Callers
from services.batcher.faces.catalog import VersionPlan
from services.batcher.faces.ports import FinishedCopy
from services.batcher.telemetry.version_stats import VersionStats
from services.common.errors import MeshError, Reason
from services.common.grpc.server import MESSAGE_MAX_BYTES
from tests.support.batcher_faces_values import version_of
from tests.support.clock import NOON, FakeClock
from tests.support.waiting import eventually

FLUSH_S = 0.25
Requests = AsyncIterator[pb.RecordPredictionsRequest]


class Monitor:
    """A channel to a monitor that notes every chunk and acknowledges those that it is told to."""

    def __init__(self) -> None:
        self.chunks: list[pb.RecordPredictionsRequest] = []
        self.acknowledges = True
        self.wants_rows = 0.0
        self.breaks = asyncio.Event()

    def stream_stream(self, _path: str, *_: object, **__: object) -> Callable[[Requests], object]:
        return self._record

    async def _record(self, requests: Requests) -> AsyncIterator[pb.RecordPredictionsResponse]:
        broken = asyncio.create_task(self.breaks.wait())
        following: asyncio.Future[pb.RecordPredictionsRequest] = asyncio.ensure_future(anext(requests))
        try:
            while True:
                await asyncio.wait((following, broken), return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the monitor is away")
                self.chunks.append(following.result())
                following = asyncio.ensure_future(anext(requests))
                if self.acknowledges:
                    yield pb.RecordPredictionsResponse(
                        acknowledged_sequence=self.chunks[-1].sequence, sample_rows_per_second=self.wants_rows
                    )
        finally:
            broken.cancel()
            following.cancel()
            await asyncio.gather(broken, following, return_exceptions=True)


class Logging:
    """A log whose tasks run, and what it needs."""

    def __init__(self, rows_max: int) -> None:
        self.clock = FakeClock()
        self.monitor = Monitor()
        channel = cast("grpc.aio.Channel", self.monitor)
        self.log = PredictionLog(channel, batcher_id="b-0", clock=self.clock, rows_max=rows_max, flush_s=FLUSH_S)
        self.plan = VersionPlan(version_of(), VersionStats("digits", "v1.0.0"))

    def add(
        self,
        request_id: str,
        *,
        code: int = 0,
        reason: int = 0,
        known: bool = True,
        labels: RowLabels | None = None,
        detail: Detail | None = None,
        compute_s: float = 0.0,
        **headers: str,
    ) -> Call:
        """One finished request."""
        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        call = Call(named, arrived_s=self.clock.monotonic(), caller=Callers().of(named, 0.0))
        call.model_name, call.plan, call.request_id, call.rows = "digits", self.plan if known else None, request_id, 2
        call.compute_s = compute_s
        noted = detail or (Detail(labels) if labels else None)
        self.log.add(call, ended_s=self.clock.monotonic() + 0.5, code=code, reason=reason, detail=noted)
        return call

    async def chunk(self) -> pb.RecordPredictionsRequest:
        """The chunk that the next flush makes."""
        before = len(self.monitor.chunks)
        await asyncio.sleep(0)
        self.clock.advance(FLUSH_S)
        await eventually(lambda: len(self.monitor.chunks) > before, what="a chunk")
        return self.monitor.chunks[-1]


@asynccontextmanager
async def logging(rows_max: int = 100) -> AsyncIterator[Logging]:
    made = Logging(rows_max)
    tasks = [asyncio.create_task(made.log.cut_chunks()), asyncio.create_task(made.log.send())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_finished_requests_leave_in_columns() -> None:
    async with logging() as made:
        made.add("a", x_infermesh_user="ann")
        made.add("b", code=3, reason=7)
        made.add("c", code=5, reason=9, known=False)
        chunk = await made.chunk()
    assert (chunk.batcher_id, chunk.sequence, chunk.dropped_total) == ("b-0", 1, 0)
    assert chunk.epoch.ToDatetime(NOON.tzinfo) == NOON
    known, unknown = chunk.groups
    assert (known.model_name, known.version, known.deployment_name) == ("digits", "v1.0.0", "prod")
    assert list(known.request_ids) == ["a", "b"]
    assert (list(known.request_codes), list(known.request_reasons)) == ([0, 3], [0, 7])
    assert list(known.request_rows) == [2, 2]
    assert list(known.request_latencies_us) == [500_000, 500_000]
    assert list(known.request_times_us) == [int(NOON.timestamp() * 1e6) + 500_000] * 2
    assert (unknown.model_name, unknown.version, list(unknown.request_ids)) == ("digits", "", ["c"])
    assert list(known.request_users) == ["ann", ""]
    assert not known.request_teams
    assert not known.request_kinds


async def test_what_requests_computed_adds_up_to_the_microsecond_however_small_the_shares_are() -> None:
    async with logging(rows_max=2000) as made:
        made.add("a")
        assert not (await made.chunk()).groups[0].request_compute_us, "nothing was computed"
        for number in range(1000):
            made.add(str(number), compute_s=0.4e-6)
        made.add("large", compute_s=2.5)
        made.add("kept")
        (group,) = (await made.chunk()).groups
    computed = list(group.request_compute_us)
    assert len(computed) == 1002
    assert sum(computed[:1000]) == 400
    assert computed[1000:] == [2_500_000, 0]


async def test_a_group_says_what_gpus_its_replicas_have() -> None:
    async with logging() as made:
        made.plan = VersionPlan(replace(version_of(), gpus=2.0), VersionStats("digits", "v1.0.0"))
        made.add("a")
        made.add("b", known=False)
        known, unknown = (await made.chunk()).groups
    assert (known.gpus, unknown.gpus) == (2.0, 0.0)


async def test_columns_of_which_one_entry_says_something_are_whole() -> None:
    async with logging() as made:
        made.add("a")
        made.add("b", x_mesh_shadow="1")
        made.add("c", x_priority="background")
        (group,) = (await made.chunk()).groups
    assert list(group.request_kinds) == [0, 2, 4]


async def test_predictions_are_told_once_as_what_came_since_the_last_chunk() -> None:
    async with logging() as made:
        for index in (0, 2):
            made.plan.stats.answered(RowScores((index, index), (0.9, 0.6), ((0.9,), (0.6,))))
            made.add(f"r{index}")
            (group,) = (await made.chunk()).groups
            assert dict(group.predictions_by_class) == {("zero", "", "two")[index]: 2}
            assert dict(group.predictions_by_confidence) == {"high": 1, "medium": 1}


async def test_beyond_the_bound_requests_are_dropped_and_counted_until_there_is_room_again() -> None:
    async with logging(rows_max=2) as made:
        made.monitor.acknowledges = False
        for number in range(5):
            made.add(str(number))
        assert (made.log.held, made.log.dropped) == (2, 3)
        chunk = await made.chunk()
        assert list(chunk.groups[0].request_ids) == ["0", "1"]
        assert chunk.dropped_total == 3
        made.add("unacknowledged requests count")
        assert (made.log.held, made.log.dropped) == (2, 4)
        samples = {sample.name: sample.value for family in made.log.collect() for sample in family.samples}
        assert samples == {
            "batcher_prediction_log_held": 2,
            "batcher_prediction_log_dropped_total": 4,
            "batcher_prediction_log_unlabelled_total": 0,
            "batcher_prediction_log_cut_short_total": 0,
        }


async def test_what_is_acknowledged_makes_room() -> None:
    async with logging(rows_max=1) as made:
        for number in range(3):
            made.add(str(number))
            assert list((await made.chunk()).groups[0].request_ids) == [str(number)]
            await eventually(lambda: made.log.held == 0, what="room")
        assert made.log.dropped == 0


async def test_what_was_not_acknowledged_is_sent_again_as_the_same_chunk() -> None:
    async with logging() as made:
        made.monitor.acknowledges = False
        made.add("a")
        first = await made.chunk()
        made.monitor.breaks.set()
        await eventually(lambda: made.clock._sleepers and len(made.clock._sleepers) == 2, what="the pause")
        made.monitor.breaks.clear()
        made.monitor.acknowledges = True
        again = await made.chunk()
        await eventually(lambda: made.log.held == 0, what="the acknowledgement")
    assert again == first


@pytest.mark.parametrize("rows", [2000, 2001])
async def test_chunks_are_small_enough_to_cut_without_holding_the_loop(rows: int) -> None:
    async with logging(rows_max=10_000) as made:
        for number in range(rows):
            made.add(str(number))
        await made.chunk()
        await eventually(lambda: made.log.held == 0, what="all chunks")
    assert [len(chunk.groups[0].request_ids) for chunk in made.monitor.chunks] == [2000, 1][: 1 + rows // 2001]
    assert [chunk.sequence for chunk in made.monitor.chunks] == list(range(1, 2 + rows // 2001))


async def test_what_was_predicted_is_a_column_only_where_it_is_wanted() -> None:
    async with logging() as made:
        made.add("a")
        assert not (await made.chunk()).groups[0].request_labels
        made.add("b", labels=RowLabels(classes=["zero", "one"]))
        made.add("c", code=13, reason=7)
        made.add("d", labels=RowLabels(values=[0.5, -1.0]))
        (group,) = (await made.chunk()).groups
    assert list(group.request_ids) == ["b", "c", "d"]
    told = [(list(one.classes), list(one.values)) for one in group.request_labels]
    assert told == [(["zero", "one"], []), ([], []), ([], [0.5, -1.0])]


async def test_labels_have_a_bound_of_their_own_and_chunks_stay_small() -> None:
    many = RowLabels(values=[0.5] * 1000)
    async with logging(rows_max=12_000) as made:
        made.monitor.acknowledges = False
        for number in range(61):
            made.add(str(number), labels=many)
        assert made.log.unlabelled == 1
        await made.chunk()
        await eventually(lambda: sum(len(one.groups[0].request_ids) for one in made.monitor.chunks) == 61, what="all")
        labelled = [len(one.values) for chunk in made.monitor.chunks for one in chunk.groups[0].request_labels]
        assert labelled == [1000] * 60 + [0] * (len(labelled) - 60)
        assert max(chunk.ByteSize() for chunk in made.monitor.chunks) < 300_000
        made.add("no room", labels=RowLabels(values=[1.0]))
        assert made.log.unlabelled == 2


async def test_names_of_classes_may_be_long_and_chunks_stay_small_all_the_same() -> None:
    async with logging(rows_max=12_000) as made:
        for number in range(8):
            made.add(str(number), labels=RowLabels(classes=["\u5b57" * 1000] * 1000))
        await made.chunk()
        await eventually(lambda: sum(len(one.groups[0].request_ids) for one in made.monitor.chunks) == 8, what="all")
        labels = [one for chunk in made.monitor.chunks for one in chunk.groups[0].request_labels]
        assert [len(one.classes) for one in labels] == [1000] * 8
        assert {len(name) for one in labels for name in one.classes} == {200}
        assert max(chunk.ByteSize() for chunk in made.monitor.chunks) < MESSAGE_MAX_BYTES


async def test_labels_that_are_acknowledged_make_room() -> None:
    many = RowLabels(values=[0.5] * 1000)
    async with logging(rows_max=400) as made:
        for number in range(5):
            made.add(str(number), labels=many)
            made.add(f"{number} again", labels=many)
            await made.chunk()
            await eventually(lambda: made.log.held == 0, what="room")
        assert made.log.unlabelled == 0


async def test_hashes_and_outputs_are_columns_only_where_one_of_the_requests_has_them() -> None:
    async with logging() as made:
        made.add("a")
        made.add("b", detail=Detail(output='{"y":1}'))
        (group,) = (await made.chunk()).groups
        assert (list(group.request_outputs), list(group.request_input_hashes)) == (["", '{"y":1}'], [])
        made.add("c", detail=Detail(RowLabels(values=[1.0]), b"h" * 32))
        made.add("d")
        (group,) = (await made.chunk()).groups
        assert (list(group.request_outputs), list(group.request_input_hashes)) == ([], [b"h" * 32, b""])
        assert [list(one.values) for one in group.request_labels] == [[1.0], []]


async def test_outputs_have_a_bound_in_bytes_and_make_room_when_they_are_counted() -> None:
    output = '"' + "x" * 8000 + '"'
    async with logging(rows_max=100_000) as made:
        made.monitor.acknowledges = False
        for number in range(8500):
            made.add(str(number), detail=Detail(input_hash=b"h" * 32, output=output))
        assert made.log.cut_short == 8500 - 64 * 1024 * 1024 // len(output)
        await made.chunk()
        await eventually(lambda: sum(len(one.groups[0].request_ids) for one in made.monitor.chunks) >= 6000, what="all")
        assert max(chunk.ByteSize() for chunk in made.monitor.chunks) < MESSAGE_MAX_BYTES / 4
        hashes = [one for chunk in made.monitor.chunks for one in chunk.groups[0].request_input_hashes]
        assert set(hashes) == {b"h" * 32}, "hashes are kept all the same"


def copy_of(plan: VersionPlan, request_id: str, *, reason: int = 0) -> FinishedCopy:
    return FinishedCopy(plan, request_id, "ann", "vision", 2, 0.5, 0.25, 13 if reason else 0, reason)


async def test_copies_and_comparisons_are_in_the_group_of_the_shadow_version() -> None:
    example = Example("r1", 1.5, 3, '{"y": 1}', '{"y": 2}', 0.25)
    sums = PairSums(compared=5, disagreed=2, failed={Reason.MODEL_FAILED: 1}, dropped=7, examples=[example])
    async with logging() as made:
        shadow = VersionPlan(version_of(), VersionStats("digits", "v1.0.0"))
        waiting = {shadow: {"v0.9.0": sums}}

        def hand_out() -> dict[VersionPlan, dict[str, PairSums]]:
            taken = dict(waiting)
            waiting.clear()
            return taken

        made.log.compared = hand_out
        made.log.add_copy(copy_of(shadow, "r1"))
        made.log.add_copy(copy_of(shadow, "r2", reason=7))
        (group,) = (await made.chunk()).groups
        made.add("a")
        (plain,) = (await made.chunk()).groups
        waiting[shadow] = {"v0.9.0": PairSums(dropped=1), "v0.8.0": PairSums(compared=1)}
        (alone,) = (await made.chunk()).groups
    assert (list(group.request_kinds), list(group.request_ids)) == ([2, 2], ["r1", "r2"])
    assert (list(group.request_latencies_us), list(group.request_codes)) == ([250_000] * 2, [0, 13])
    assert (list(group.request_users), list(group.request_teams)) == (["ann"] * 2, ["vision"] * 2)
    (told,) = group.shadow_comparisons
    assert (told.primary_version, told.compared_count, told.disagreed_count) == ("v0.9.0", 5, 2)
    assert (dict(told.failed_by_reason), told.dropped_count) == ({"MODEL_FAILED": 1}, 7)
    (shown,) = told.examples
    assert (shown.request_id, shown.row, shown.difference) == ("r1", 3, 0.25)
    assert (shown.primary_output, shown.shadow_output) == ('{"y": 1}', '{"y": 2}')
    assert shown.time_us == int(NOON.timestamp() * 1e6) + 1_500_000
    assert not plain.shadow_comparisons
    assert not alone.request_ids
    assert (alone.model_name, alone.version, alone.deployment_name) == ("digits", "v1.0.0", "prod")
    assert {one.primary_version: (one.compared_count, one.dropped_count) for one in alone.shadow_comparisons} == {
        "v0.9.0": (0, 1), "v0.8.0": (1, 0)
    }  # fmt: skip


async def test_rows_are_sampled_of_traffic_alone_and_only_once_the_monitor_asks() -> None:
    async with logging() as made:
        made.monitor.wants_rows = 8.0
        made.add("before")
        assert not (await made.chunk()).groups[0].HasField("sampled_rows")
        made.add("kept")
        made.add("a batch job's", x_priority="background")
        made.add("failed", code=3, reason=7)
        made.add("a copy", x_mesh_shadow="1")
        made.add("a retry", x_envoy_attempt_count="2")
        (group,) = (await made.chunk()).groups
        # Two rows a request, of the caller's and the batch job's; eight rows a second are two in a quarter of one.
        assert (group.sampled_rows.seen_count, group.sampled_rows.row_count) == (4, 2)
