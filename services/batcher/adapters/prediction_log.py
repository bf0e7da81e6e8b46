"""The prediction log: finished requests, in columns, over one stream to the monitor.

The hot path appends a tuple to a list that is bounded; everything else happens beside it. A chunk is kept until the
monitor says that it is counted and is sent again after a reconnect: epoch and sequence make that harmless.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import grpc
from google.protobuf import timestamp_pb2
from infermesh.monitor.v1 import prediction_log_pb2 as pb
from infermesh.monitor.v1 import prediction_log_pb2_grpc
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from services.batcher.adapters.outgoing import Outgoing
from services.batcher.adapters.prediction_columns import Columns, Comparisons, Entry, compared_group, comparisons
from services.batcher.adapters.row_samples import RowSamples
from services.batcher.domain.log_detail import Detail
from services.batcher.faces.call import KIND_BATCH, KIND_CALLER, KIND_SHADOW, Call
from services.batcher.faces.catalog import VersionPlan
from services.batcher.faces.ports import FinishedCopy
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_CHUNK_ROWS_MAX = 2000
"""Cutting a chunk of this size holds the loop for about a millisecond."""
_CHUNKS_ON_THE_WAY_MAX = 8
"""With so many not acknowledged only whole chunks are cut: a monitor that is away costs few large ones."""
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 2.0
_LAST_WORDS_S = 0.7
"""How long a stop waits for the monitor to take the last chunk."""
_CHUNK_LABELS_MAX = 20_000
"""Labels of a chunk, those of its last request not counted: it has to fit into a message."""
_CHUNK_TEXT_MAX = 1_000_000
"""Characters of these and of outputs: a chunk that the monitor cannot take would be sent again for ever, and all others
behind it."""
_OUTPUT_BYTES_MAX = 64 * 1024 * 1024
"""Of outputs that are held; beyond it requests are logged without theirs."""
SAMPLED_KINDS = (KIND_CALLER, KIND_BATCH)
"""What counts as traffic counts for drift."""
_LABELS_PER_ROW = 5
"""Labels are kept for as many times the requests that are, on average; beyond it requests are logged without them."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    message: pb.RecordPredictionsRequest
    rows: int
    labels: int
    output_bytes: int


class PredictionLog:
    """A `RequestLog` over gRPC."""

    def __init__(
        self, channel: grpc.aio.Channel, *, batcher_id: str, clock: Clock, rows_max: int, flush_s: float
    ) -> None:
        """What is held is bounded by `rows_max`, in requests."""
        self._stub = prediction_log_pb2_grpc.PredictionLogServiceStub(channel)
        self._batcher_id = batcher_id
        self._clock = clock
        self._rows_max = rows_max
        self._flush_s = flush_s
        self._epoch = timestamp_pb2.Timestamp()
        self._epoch.FromDatetime(clock.now())
        self._pending: deque[Entry] = deque()
        self._labels = 0
        """Of requests that are held."""
        self._output_bytes = 0
        """Of requests that are held."""
        self._unacknowledged: deque[_Chunk] = deque()
        self._unacknowledged_rows = 0
        self._sequence = 0
        self._columns = Columns()
        self._samples = RowSamples(period_s=flush_s, chance=random.Random(batcher_id).random)  # noqa: S311
        """For drift, where the monitor asks for them."""
        self.compared: Callable[[], Mapping[VersionPlan, Comparisons]] = dict
        """Hands out, once, what comparisons with shadow versions showed since it was last asked."""
        self.unlabelled = 0
        """Requests that were logged without their labels, for want of room."""
        self.cut_short = 0
        """Requests that were logged without their output, for want of room."""
        self._outgoing: Outgoing[pb.RecordPredictionsRequest] | None = None
        self._settled = asyncio.Event()
        """Set whenever the monitor has counted all, or went away."""
        self._away = False
        """Whether the last stream broke and the monitor has taken nothing since."""
        self.dropped = 0
        """Requests that found no room."""

    def add(self, call: Call, *, ended_s: float, code: int, reason: int, detail: Detail | None = None) -> None:
        """Notes a finished request, or counts it as dropped where the bound is reached."""
        pending = self._pending
        if len(pending) + self._unacknowledged_rows >= self._rows_max:
            self.dropped += 1
            return
        plan, kind = call.plan, call.kind
        if not code and plan is not None and kind in SAMPLED_KINDS:
            self._samples.offer(call, plan)
        pending.append(
            (
                plan or call.model_name,
                ended_s,
                ended_s - call.arrived_s,
                call.rows,
                code,
                reason,
                call.request_id,
                call.user,
                call.team,
                kind,
                call.compute_s,
                detail if detail is None else self._room_for(detail),
                call.trace.trace_id if call.trace is not None else b"",
            )
        )

    def add_copy(self, copy: FinishedCopy) -> None:
        """Notes a shadow copy, or counts it as dropped."""
        pending = self._pending
        if len(pending) + self._unacknowledged_rows >= self._rows_max:
            self.dropped += 1
            return
        pending.append(
            (
                copy.plan,
                copy.ended_s,
                copy.took_s,
                copy.rows,
                copy.code,
                copy.reason,
                copy.request_id,
                copy.user,
                copy.team,
                KIND_SHADOW,
                copy.compute_s,
                copy.detail if copy.detail is None else self._room_for(copy.detail),
                b"",
            )
        )

    def _room_for(self, detail: Detail) -> Detail:
        """As much of it as there is room for. A hash is no larger than an id and needs none of its own."""
        count, size = _count(detail), len(detail.output)
        if self._labels + count > self._rows_max * _LABELS_PER_ROW:
            self.unlabelled += 1
            detail, count = replace(detail, labels=None), 0
        if size and self._output_bytes + size > _OUTPUT_BYTES_MAX:
            self.cut_short += 1
            detail, size = replace(detail, output=""), 0
        self._labels += count
        self._output_bytes += size
        return detail

    @property
    def held(self) -> int:
        """Requests that wait for the monitor."""
        return len(self._pending) + self._unacknowledged_rows

    def collect(self) -> Iterator[Metric]:
        """What is held and what was dropped."""
        yield GaugeMetricFamily("batcher_prediction_log_held", "Finished requests not yet counted.", value=self.held)
        yield CounterMetricFamily("batcher_prediction_log_dropped", "Finished requests not logged.", value=self.dropped)
        yield CounterMetricFamily(
            "batcher_prediction_log_unlabelled", "Requests logged without what was predicted.", value=self.unlabelled
        )
        yield CounterMetricFamily(
            "batcher_prediction_log_cut_short", "Requests logged without their output.", value=self.cut_short
        )

    async def cut_chunks(self) -> None:
        """Cuts what is pending into chunks, every flush interval; a task of the lifecycle."""
        while True:
            await self._clock.sleep(self._flush_s)
            if len(self._unacknowledged) < _CHUNKS_ON_THE_WAY_MAX:
                self._cut()
                await asyncio.sleep(0)
            while self._pending and (
                len(self._unacknowledged) < _CHUNKS_ON_THE_WAY_MAX or len(self._pending) >= _CHUNK_ROWS_MAX
            ):
                self._cut()
                await asyncio.sleep(0)

    async def send(self) -> None:
        """Sends chunks for as long as the process lives; a task of the lifecycle."""
        delay_s = _RETRY_MIN_S
        while True:
            try:
                async for _ in self._stream():
                    delay_s = _RETRY_MIN_S
                reason = "the monitor ended the stream"
            except MeshError as error:
                reason = error.message
            if not self._away:
                log.warning("the monitor is away; the prediction log is held", reason=reason, held=self.held)
            self._away = True
            self._settled.set()
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_MAX_S)

    async def stop(self) -> None:
        """Hands over what is left, where the monitor takes it soon."""
        self._cut()
        while self._pending:
            self._cut()
        if self._unacknowledged and not self._away:
            self._settled.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._settled.wait()
        if self._unacknowledged:
            log.warning("prediction log lost", rows=self._unacknowledged_rows, dropped=self.dropped)

    async def _stream(self) -> AsyncIterator[None]:
        sent = 0

        def take() -> pb.RecordPredictionsRequest | None:
            nonlocal sent
            chunks = self._unacknowledged
            # Sequences have no gaps, so the place of the next one is known.
            place = max(0, sent + 1 - chunks[0].message.sequence) if chunks else 0
            if place >= len(chunks):
                return None
            message = chunks[place].message
            sent = message.sequence
            return message

        outgoing = self._outgoing = Outgoing(take)
        try:
            async for response in self._stub.RecordPredictions(outgoing):
                if self._away:
                    log.info("the monitor takes the prediction log again", held=self.held)
                    self._away = False
                self._acknowledged(response.acknowledged_sequence)
                self._samples.ask_for(response.sample_rows_per_second)
                yield
        finally:
            outgoing.end()

    def _acknowledged(self, sequence: int) -> None:
        chunks = self._unacknowledged
        while chunks and chunks[0].message.sequence <= sequence:
            chunk = chunks.popleft()
            self._unacknowledged_rows -= chunk.rows
            self._labels -= chunk.labels
            self._output_bytes -= chunk.output_bytes
        if not chunks:
            self._settled.set()

    def _cut(self) -> None:
        """Makes a chunk of the oldest requests and of what comparisons showed; none, where there is neither."""
        compared = self.compared()
        if not self._pending and not compared:
            return
        groups: dict[VersionPlan | str, list[Entry]] = {}
        count = labels = characters = output_bytes = 0
        for entry in islice(self._pending, _CHUNK_ROWS_MAX):
            groups.setdefault(entry[0], []).append(entry)
            count += 1
            detail = entry[-2]
            if detail is not None:
                output_bytes += len(detail.output)
                characters += len(detail.output)
                if detail.labels is not None:
                    labels += _count(detail)
                    characters += sum(map(len, detail.labels.classes))
                if labels >= _CHUNK_LABELS_MAX or characters >= _CHUNK_TEXT_MAX:
                    break
        for _ in range(count):
            self._pending.popleft()
        self._sequence += 1
        # Entries know the monotonic clock, which does not step; the log wants the moment.
        epoch_us = self._clock.now().timestamp() * 1e6 - self._clock.monotonic() * 1e6
        made = {key: self._columns.group(key, entries, epoch_us=epoch_us) for key, entries in groups.items()}
        for plan, by_primary in compared.items():
            group = made.setdefault(plan, compared_group(plan))
            group.shadow_comparisons.extend(comparisons(by_primary, epoch_us=epoch_us))
        now_us = int(self._clock.now().timestamp() * 1e6)
        for plan, sampled in self._samples.drain(now_s=self._clock.monotonic(), time_us=now_us):
            made.setdefault(plan, compared_group(plan)).sampled_rows.CopyFrom(sampled)
        message = pb.RecordPredictionsRequest(
            batcher_id=self._batcher_id,
            sequence=self._sequence,
            epoch=self._epoch,
            dropped_total=self.dropped,
            groups=made.values(),
        )
        self._unacknowledged.append(_Chunk(message, count, labels, output_bytes))
        self._unacknowledged_rows += count
        if self._outgoing is not None:
            self._outgoing.wake()


def _count(detail: Detail) -> int:
    return 0 if detail.labels is None else len(detail.labels.classes) + len(detail.labels.values)
