"""The prediction log: finished requests, in columns, over one stream to the monitor.

The hot path appends a tuple to a list that is bounded; everything else happens beside it. A chunk is kept until the
monitor says that it is counted and is sent again after a reconnect: epoch and sequence make that harmless.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import grpc
from google.protobuf import timestamp_pb2
from infermesh.monitor.v1 import prediction_log_pb2 as pb
from infermesh.monitor.v1 import prediction_log_pb2_grpc
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from services.batcher.adapters.outgoing import Outgoing
from services.batcher.faces.call import KIND_SHADOW, Call
from services.batcher.faces.catalog import VersionPlan
from services.batcher.telemetry.version_stats import VersionStats
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
_UINT32_MAX = 0xFFFFFFFF

_Entry = tuple[VersionPlan | str, float, float, int, int, int, str, str, str, int]
"""Version (or the model's name), end and duration in seconds, rows, code, reason, id, user, team, kind."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    message: pb.RecordPredictionsRequest
    rows: int


@dataclass(slots=True)
class _Reported:
    """What the monitor was told of a version's predictions so far."""

    by_class: dict[str, int]
    high: int = 0
    medium: int = 0
    low: int = 0


class PredictionLog:
    """A `RequestLog` over gRPC."""

    def __init__(
        self, channel: grpc.aio.Channel, *, batcher_id: str, clock: Clock, rows_max: int, flush_s: float
    ) -> None:
        self._stub = prediction_log_pb2_grpc.PredictionLogServiceStub(channel)
        self._batcher_id = batcher_id
        self._clock = clock
        self._rows_max = rows_max
        self._flush_s = flush_s
        self._epoch = timestamp_pb2.Timestamp()
        self._epoch.FromDatetime(clock.now())
        self._pending: deque[_Entry] = deque()
        self._unacknowledged: deque[_Chunk] = deque()
        self._unacknowledged_rows = 0
        self._sequence = 0
        self._reported: dict[int, _Reported] = {}
        self._outgoing: Outgoing[pb.RecordPredictionsRequest] | None = None
        self._settled = asyncio.Event()
        """Set whenever the monitor has counted all, or went away."""
        self._away = False
        """Whether the last stream broke and the monitor has taken nothing since."""
        self.dropped = 0
        """Requests that found no room."""

    def add(self, call: Call, *, ended_s: float, code: int, reason: int) -> None:
        """Notes a finished request, or counts it as dropped where the bound is reached."""
        pending = self._pending
        if len(pending) + self._unacknowledged_rows >= self._rows_max:
            self.dropped += 1
            return
        pending.append(
            (
                call.plan or call.model_name,
                ended_s,
                ended_s - call.arrived_s,
                call.rows,
                code,
                reason,
                call.request_id,
                call.user,
                call.team,
                call.kind,
            )
        )

    @property
    def held(self) -> int:
        """Requests that wait for the monitor."""
        return len(self._pending) + self._unacknowledged_rows

    def collect(self) -> Iterator[Metric]:
        """What is held and what was dropped."""
        yield GaugeMetricFamily("batcher_prediction_log_held", "Finished requests not yet counted.", value=self.held)
        yield CounterMetricFamily("batcher_prediction_log_dropped", "Finished requests not logged.", value=self.dropped)

    async def cut_chunks(self) -> None:
        """Cuts what is pending into chunks, every flush interval; a task of the lifecycle."""
        while True:
            await self._clock.sleep(self._flush_s)
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
                yield
        finally:
            outgoing.end()

    def _acknowledged(self, sequence: int) -> None:
        chunks = self._unacknowledged
        while chunks and chunks[0].message.sequence <= sequence:
            self._unacknowledged_rows -= chunks.popleft().rows
        if not chunks:
            self._settled.set()

    def _cut(self) -> None:
        count = min(len(self._pending), _CHUNK_ROWS_MAX)
        groups: dict[VersionPlan | str, list[_Entry]] = {}
        for entry in islice(self._pending, count):
            groups.setdefault(entry[0], []).append(entry)
        for _ in range(count):
            self._pending.popleft()
        self._sequence += 1
        # Entries know the monotonic clock, which does not step; the log wants the moment.
        epoch_us = self._clock.now().timestamp() * 1e6 - self._clock.monotonic() * 1e6
        message = pb.RecordPredictionsRequest(
            batcher_id=self._batcher_id,
            sequence=self._sequence,
            epoch=self._epoch,
            dropped_total=self.dropped,
            groups=[self._group(key, entries, epoch_us) for key, entries in groups.items()],
        )
        self._unacknowledged.append(_Chunk(message, count))
        self._unacknowledged_rows += count
        if self._outgoing is not None:
            self._outgoing.wake()

    def _group(self, key: VersionPlan | str, entries: list[_Entry], epoch_us: float) -> pb.PredictionGroup:
        _, ended, took, rows, codes, reasons, ids, users, teams, kinds = zip(*entries, strict=True)
        group = pb.PredictionGroup(
            request_times_us=[int(epoch_us + end_s * 1e6) for end_s in ended],
            request_latencies_us=[min(_UINT32_MAX, max(0, int(seconds * 1e6))) for seconds in took],
            request_rows=rows,
            request_codes=codes,
            request_reasons=reasons,
            request_ids=ids,
            request_users=users if any(users) else (),
            request_teams=teams if any(teams) else (),
            request_kinds=kinds if any(kinds) else (),
        )
        if isinstance(key, str):
            group.model_name = key
            return group
        served = key.served
        group.model_name, group.version, group.deployment_name = (
            served.model_name,
            served.version,
            served.deployment_name,
        )
        if kinds.count(KIND_SHADOW) < len(kinds):
            self._add_scores(group, key)
        return group

    def _add_scores(self, group: pb.PredictionGroup, plan: VersionPlan) -> None:
        """What was predicted since the last chunk."""
        stats = plan.stats
        before = self._reported.get(id(stats)) or _Reported({})
        named = stats.classes(plan.outputs)
        _add(group.predictions_by_class, {name: count - before.by_class.get(name, 0) for name, count in named.items()})
        _add(
            group.predictions_by_confidence,
            {
                "high": stats.confidence_high - before.high,
                "medium": stats.confidence_medium - before.medium,
                "low": stats.confidence_low - before.low,
            },
        )
        self._reported[id(stats)] = _reported(named, stats)


def _add(counts: "Mapping[str, int]", more: Mapping[str, int]) -> None:
    counts.update({name: count for name, count in more.items() if count > 0})  # type: ignore[attr-defined]


def _reported(named: dict[str, int], stats: VersionStats) -> _Reported:
    return _Reported(named, stats.confidence_high, stats.confidence_medium, stats.confidence_low)
