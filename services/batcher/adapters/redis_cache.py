"""The prediction cache's second layer: Redis, or anything that speaks its protocol.

A help and never a need. Nobody who waits for a prediction connects, probes or writes: two background tasks, each with a
connection of its own, do that. While one is away its layer is skipped at once.

What is read in the meantime of one answer goes out together in one MGET, because the client costs some 35 µs of CPU a
call and 4 µs a key. Writes wait in a bounded queue and go out in pipelines.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from services.batcher.adapters.redis_link import RedisLink
from services.batcher.codec import stored_answer
from services.batcher.domain.cached import StoreCounts
from services.batcher.domain.request import InferResult
from services.batcher.engines.cache_ports import Stored
from services.common.clock import Clock

READ_TIMEOUT_S = 0.005
_WRITE_TIMEOUT_S = 1.0
_READ_KEYS_MAX = 256
"""Of one MGET."""
_WANTED_KEYS_MAX = 2048
"""Keys that may wait to be read; beyond it reads are skipped."""
_PIPELINE_MAX = 64
_PIPELINE_BYTES_MAX = 256 * 1024
_QUEUE_MAX = 4096
_QUEUE_BYTES_MAX = 16 * 1024 * 1024
_LATE_S = 0.001
"""A timer that is this late says that this process was busy, and nothing of Redis."""


@dataclass(frozen=True, slots=True)
class _Read:
    keys: Sequence[str]
    future: "asyncio.Future[Sequence[Stored | None]]"
    due_s: float


@dataclass(frozen=True, slots=True)
class _Write:
    key: str
    result: InferResult
    ends_s: float
    """By the monotonic clock."""
    size_bytes: int


class RedisCache:
    """An `AnswerStore`. `read` and `write` belong to the loop that runs `serve_reads` and `serve_writes`."""

    def __init__(self, url: str, *, clock: Clock, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self._clock = clock
        self._read_timeout_s = read_timeout_s
        self.counts = StoreCounts()
        self._reading = RedisLink("the prediction cache's reads", url, clock=clock, on_error=self._count_error)
        self._writing = RedisLink("the prediction cache's writes", url, clock=clock, on_error=self._count_error)
        self._wanted: deque[_Read] = deque()
        self._wanted_keys = 0
        self._asked: list[_Read] = []
        """On their way to Redis."""
        self._more_wanted = asyncio.Event()
        self._queue: deque[_Write] = deque()
        self._queue_bytes = 0
        self._more_queued = asyncio.Event()

    @property
    def queued(self) -> int:
        """Writes that wait."""
        return len(self._queue)

    @property
    def reads(self) -> bool:
        """Whether Redis is asked."""
        return self._reading.up

    @property
    def writes(self) -> bool:
        """Whether Redis is written to."""
        return self._writing.up

    def read(self, keys: Sequence[str]) -> Awaitable[Sequence[Stored | None]] | None:
        """What is stored, within the time limit; None where Redis is not to be asked now."""
        if not self._reading.up or self._wanted_keys + len(keys) > _WANTED_KEYS_MAX:
            self.counts.skipped += len(keys)
            return None
        future: asyncio.Future[Sequence[Stored | None]] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Read(keys, future, self._clock.monotonic() + self._read_timeout_s))
        self._wanted_keys += len(keys)
        self._more_wanted.set()
        return future

    def write(self, key: str, result: InferResult, *, left_s: float) -> None:
        """Queues it, or counts it as dropped."""
        size = sum([len(tensor.data) for tensor in result.outputs])
        if (
            not self._writing.up
            or len(self._queue) >= _QUEUE_MAX
            or (self._queue and self._queue_bytes + size > _QUEUE_BYTES_MAX)
        ):
            self.counts.dropped += 1
            return
        self._queue.append(_Write(key, result, self._clock.monotonic() + left_s, size))
        self._queue_bytes += size
        self._more_queued.set()

    def _count_error(self) -> None:
        self.counts.errors += 1

    async def serve_reads(self) -> None:
        """Asks Redis for what is wanted; a task of the lifecycle."""
        try:
            await self._reading.run(self._read_all, self._miss_all)
        finally:
            self._miss_all()

    async def serve_writes(self) -> None:
        """Writes what is queued; a task of the lifecycle."""
        await self._writing.run(self._write_all, self._drop_all)

    async def _read_all(self, client: Redis) -> None:
        while True:
            await self._more_wanted.wait()
            asked = self._take_wanted()
            if not asked:
                continue
            keys = [key for one in asked for key in one.keys]
            async with self._within(asked[0].due_s):
                values: Sequence[bytes | None] = await client.execute_command("MGET", *keys)  # type: ignore[no-untyped-call]
            self._asked = []
            found = [self._stored(value) for value in values]
            at = 0
            for one in asked:
                end = at + len(one.keys)
                if not one.future.done():
                    one.future.set_result(found[at:end])
                at = end

    def _take_wanted(self) -> list[_Read]:
        """What goes out together: whoever left meanwhile is not asked for."""
        asked = self._asked = []
        keys = 0
        while self._wanted and (not asked or keys + len(self._wanted[0].keys) <= _READ_KEYS_MAX):
            one = self._wanted.popleft()
            self._wanted_keys -= len(one.keys)
            if not one.future.done():
                asked.append(one)
                keys += len(one.keys)
        if not self._wanted:
            self._more_wanted.clear()
        return asked

    def _miss_all(self) -> None:
        """Nobody waits any longer."""
        waiting = [*self._asked, *self._wanted]
        self._asked = []
        self._wanted.clear()
        self._wanted_keys = 0
        self._more_wanted.clear()
        for one in waiting:
            if not one.future.done():
                one.future.set_result([None] * len(one.keys))

    @asynccontextmanager
    async def _within(self, due_s: float) -> AsyncIterator[None]:
        """Raises TimeoutError at `due_s`, or a little later where this process itself was held up until then."""
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []

        def due(limit: asyncio.Timeout) -> None:
            if len(timers) == 1 and self._clock.monotonic() - due_s > _LATE_S:
                timers.append(loop.call_later(_LATE_S, due, limit))
            else:
                limit.reschedule(loop.time())

        async with asyncio.timeout(None) as limit:
            timers.append(loop.call_later(max(0.0, due_s - self._clock.monotonic()), due, limit))
            try:
                yield
            finally:
                for timer in timers:
                    timer.cancel()

    def _stored(self, value: bytes | None) -> Stored | None:
        if value is None:
            return None
        decoded = stored_answer.decode(value)
        if decoded is None:
            self.counts.foreign += 1
            return None
        ends_ms, result = decoded
        left_s = ends_ms / 1000 - self._clock.now().timestamp()
        return Stored(result, left_s) if left_s > 0 else None

    async def _write_all(self, client: Redis) -> None:
        while True:
            await self._more_queued.wait()
            commands = self._take_queued()
            if not commands:
                continue
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                pipeline = client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                # Refusals (no memory left) are no failure of the connection.
                answers = await pipeline.execute(raise_on_error=False)
            refused = sum(isinstance(answer, Exception) for answer in answers)
            self.counts.written += len(answers) - refused
            self.counts.dropped += refused

    def _take_queued(self) -> list[tuple[str | bytes | int, ...]]:
        now_s, now = self._clock.monotonic(), self._clock.now().timestamp()
        commands: list[tuple[str | bytes | int, ...]] = []
        size = 0
        while self._queue and len(commands) < _PIPELINE_MAX and size < _PIPELINE_BYTES_MAX:
            one = self._queue.popleft()
            self._queue_bytes -= one.size_bytes
            left_s = one.ends_s - now_s
            value = stored_answer.encode(one.result, expires_ms=int((now + left_s) * 1000)) if left_s > 0 else None
            if value is None:
                self.counts.dropped += 1
                continue
            commands.append(("SET", one.key, value, "PX", max(1, int(left_s * 1000))))
            size += len(value)
        if not self._queue:
            self._more_queued.clear()
        return commands

    def _drop_all(self) -> None:
        self.counts.dropped += len(self._queue)
        self._queue.clear()
        self._queue_bytes = 0
        self._more_queued.clear()
