"""Takes the prediction log: counts chunks in memory, stores the sums every few seconds, then acknowledges.

Exactly once rests on one rule: what a stream (one run of one batcher) said since its stored position is summed up
apart from all others, and sums and position are stored in one transaction that checks the old position. Whatever dies
in between, the batcher sends again what was not acknowledged, and what was stored is recognised by its number.

Memory is bounded by the number of cells and of rows waiting; beyond, streams are not read, and the batchers count what
their own bound makes them drop. Cells do not grow with requests, so a slow database costs little here. Sums by the
second grow with time, so they are given up when there are too many: windows then begin at a whole minute.
"""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.monitor.domain.measures import ReasonName
from services.monitor.domain.records import Chunk, StreamKey
from services.monitor.domain.team_tallies import tallies_of
from services.monitor.engines.live import Live
from services.monitor.engines.stream import RecorderLimits, Stream
from services.monitor.ports import Applied, Batch, Board, LogStore

log = get_logger(__name__)

_ROOM_TIMEOUT_S = 30.0
_STREAMS_MAX = 1000


class Recorder:
    """Owns every stream. `run` is its background task; `drain` ends it without losing anything."""

    def __init__(
        self,
        *,
        store: LogStore,
        live: Live,
        board: Board,
        clock: Clock,
        reason_name: ReasonName,
        limits: RecorderLimits,
        chance: np.random.Generator | None = None,
    ) -> None:
        """`chance` draws the samples of rows for drift."""
        self._store = store
        self._live = live
        self._board = board
        self._clock = clock
        self._reason_name = reason_name
        self._limits = limits
        self._chance = chance or np.random.default_rng(0)
        self._streams: dict[StreamKey, Stream] = {}
        self._changed = asyncio.Condition()
        self._hurry = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._draining = False
        self._reachable = True

    @property
    def reachable(self) -> bool:
        """Whether the last attempt to store something worked."""
        return self._reachable

    async def open(self, key: StreamKey) -> "Session":
        """Begins or resumes a stream. Raises MeshError where the store does not answer or the monitor stops."""
        if self._draining:
            raise _stopping()
        # Asked each time: the batcher may have been with another monitor meanwhile, and what that one acknowledged
        # must not be taken back.
        try:
            position = await self._store.position(key)
        except MeshError:
            known = self._streams.get(key)
            if known is None:
                raise
            # Counting goes on in memory; the position is told again when a write has proven it.
            return Session(self, known, self._changed, told=known.durable)
        stream = self._streams.get(key)
        if stream is not None and position > stream.durable:
            await self._lose(stream)
            stream = None
        if stream is None:
            self._forget_idle()
            stream = self._streams.setdefault(key, Stream(key, received=position, durable=position))
        return Session(self, stream, self._changed)

    async def take(self, stream: Stream, chunk: Chunk) -> None:
        """Counts a chunk in memory unless it is counted already."""
        if chunk.refused_groups:
            log.warning("groups of the log refused", batcher=stream.key.batcher_id, groups=chunk.refused_groups)
            self._board.chunk("refused", 0)
        await self._wait_for_room(stream)
        requests = sum(len(group.times_us) for group in chunk.groups)
        if chunk.sequence <= stream.received:
            self._board.chunk("duplicate", requests)
            return
        now_us, unkept = int(self._clock.now().timestamp() * 1_000_000), stream.waiting.unkept
        for group in chunk.groups:
            counted = stream.waiting.add(
                group, now_us=now_us, reason_name=self._reason_name, limits=self._limits, chance=self._chance
            )
            self._live.add(counted)
            self._board.teams(tallies_of(group, reason_name=self._reason_name))
        stream.received = chunk.sequence
        stream.dropped_total = chunk.dropped_total
        stream.taken_us = now_us
        if self._seconds_waiting() > self._limits.seconds_max:
            stream.waiting.give_up_seconds()
        if stream.waiting.unkept > unkept:
            self._board.unkept(stream.waiting.unkept - unkept)
        if stream.waiting.half_full(self._limits):
            self._hurry.set()
        self._board.chunk("counted", requests)
        self._board.dropped(stream.key.batcher_id, chunk.dropped_total)

    async def run(self) -> None:
        """Stores what waits, every period or as soon as someone needs it stored."""
        while True:
            try:
                async with asyncio.timeout(self._limits.flush_period_s):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            await self.flush()
            self._board.live(self._live.figures(self._clock.now()))
            if not self._reachable:
                await self._clock.sleep(self._limits.flush_period_s)

    async def flush(self) -> bool:
        """Stores what waits. False where something could not be stored; it is kept and tried again."""
        async with self._flushing:
            for stream in list(self._streams.values()):
                batch = stream.to_store()
                if batch is not None and not await self._store_batch(stream, batch):
                    return False
        return True

    async def drain(self) -> None:
        """Stores everything, acknowledges it, and ends the streams; the batchers go on elsewhere or later."""
        self._draining = True
        # Once more than it seems to need: a batch in flight goes first, and alone.
        if not (await self.flush() and await self.flush()):
            log.warning("stopping with parts of the log not stored; the batchers still hold them")
        await self._announce()

    def hurry(self) -> None:
        """Asks for a flush now."""
        self._hurry.set()

    @property
    def draining(self) -> bool:
        """No more chunks are taken."""
        return self._draining

    async def _store_batch(self, stream: Stream, batch: Batch) -> bool:
        began_s = self._clock.monotonic()
        try:
            applied = await self._store.apply(batch)
        except MeshError as error:
            if self._reachable:
                log.warning("the log cannot be stored; it is kept and tried again", reason=error.message)
            self._reachable = False
            self._board.flushed("failed", self._clock.monotonic() - began_s)
            return False
        self._reachable = True
        self._board.flushed(applied.name.lower(), self._clock.monotonic() - began_s)
        stream.in_flight = None
        if applied is Applied.CONFLICT:
            log.warning("another monitor counted a part of the stream", batcher=batch.stream.batcher_id)
            await self._lose(stream)
            return True
        stream.durable = batch.last
        await self._announce()
        return True

    async def _lose(self, stream: Stream) -> None:
        """Gives up what waits of a stream that went on elsewhere: nobody acknowledged it, so it is sent again."""
        stream.lost = True
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]
        await self._announce()

    async def _wait_for_room(self, stream: Stream) -> None:
        def settled_or_room() -> bool:
            return self._draining or stream.lost or self._has_room()

        if not settled_or_room():
            self._hurry.set()
            try:
                async with asyncio.timeout(_ROOM_TIMEOUT_S), self._changed:
                    await self._changed.wait_for(settled_or_room)
            except TimeoutError:
                raise MeshError(
                    Reason.DEPENDENCY_UNAVAILABLE,
                    f"the monitor's database took nothing for {_ROOM_TIMEOUT_S:.0f} s and all that may wait waits "
                    f"already ({self._limits.cells_max} aggregates or {self._limits.predictions_max} requests under "
                    "test); connect again later and send from the last acknowledgement on",
                    retry_after_s=5.0,
                ) from None
        if self._draining:
            raise _stopping()
        if stream.lost:
            raise _lost()

    def _has_room(self) -> bool:
        cells = sum(stream.cells_waiting for stream in self._streams.values())
        predictions = sum(stream.predictions_waiting for stream in self._streams.values())
        usage = sum(stream.usage_waiting for stream in self._streams.values())
        limits = self._limits
        return cells < limits.cells_max and predictions < limits.predictions_max and usage < limits.usage_max

    def _seconds_waiting(self) -> int:
        return sum(stream.seconds_waiting for stream in self._streams.values())

    def _forget_idle(self) -> None:
        """Keeps the memory of ended batchers bounded; what they sent is stored."""
        if len(self._streams) >= _STREAMS_MAX:
            for key in [key for key, stream in self._streams.items() if stream.settled and not stream.sessions]:
                del self._streams[key]

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Session:
    """One connection of a batcher: chunks in, acknowledgements out. `told` is the position that need not be said."""

    def __init__(self, recorder: Recorder, stream: Stream, changed: asyncio.Condition, *, told: int = -1) -> None:
        self._recorder = recorder
        self._stream = stream
        self._changed = changed
        self._ended = False
        self._told = told
        stream.sessions += 1

    async def take(self, chunk: Chunk) -> None:
        """Counts a chunk. Raises MeshError where the stream must end."""
        await self._recorder.take(self._stream, chunk)

    async def end(self) -> None:
        """No more chunks come over this connection: store what came, so that it can be acknowledged."""
        self._ended = True
        self._recorder.hurry()
        async with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """The connection is gone."""
        self._stream.sessions -= 1

    async def acknowledgements(self) -> AsyncGenerator[int, None]:
        """Positions as they become safe, the present one first where the store tells it. Ends after `end` once
        everything is stored.

        Raises MeshError SHUTTING_DOWN at a drain and DEPENDENCY_UNAVAILABLE where another monitor took over.
        """
        stream = self._stream
        while True:
            async with self._changed:
                await self._changed.wait_for(self._has_news)
            if stream.durable > self._told:
                self._told = stream.durable
                yield self._told
            elif stream.lost:
                raise _lost()
            elif self._recorder.draining:
                raise _stopping()
            else:
                return

    def _has_news(self) -> bool:
        over = self._recorder.draining or (self._ended and self._stream.settled)
        return self._stream.durable > self._told or self._stream.lost or over


def _stopping() -> MeshError:
    return MeshError(
        Reason.SHUTTING_DOWN,
        "the monitor stops; connect again and send from the last acknowledgement on",
        retry_after_s=1.0,
    )


def _lost() -> MeshError:
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "another monitor counted a part of this stream; connect again and send from the last acknowledgement on",
        retry_after_s=0.1,
    )
