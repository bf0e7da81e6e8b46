"""Rows of feature views out of Redis, laid out as `codec.feature_row` says.

One connection that a background task keeps up. All that is wanted while an answer is on its way goes out together in
one pipeline. An answer may be late by far more than a request waits for it; one that does not come at all ends the
connection, and then nobody is kept waiting until it is up again.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.batcher.adapters.redis_link import RedisLink
from services.batcher.codec.feature_row import decode_row, row_key
from services.batcher.domain.feature_views import Lookup, StoredRow
from services.batcher.engines.feature_ports import Read
from services.common.clock import Clock

SILENCE_S = 0.25
"""Without any answer for so long the connection is given up."""
_PIPELINE_MAX = 128
"""Rows of one pipeline: more would hold the loop for milliseconds while they are read."""
_WANTED_MAX = 131_072
"""Rows that may wait; beyond it nothing is taken."""


@dataclass(slots=True)
class _Reading:
    """One read on its way, perhaps in several pipelines."""

    lookups: Sequence[Lookup]
    future: Read
    rows: list[StoredRow | None] = field(default_factory=list)
    asked: int = 0


class RedisFeatures:
    """A `FeatureStore`. `read` belongs to the loop that runs `serve`."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._link = RedisLink("features", url, clock=clock, on_error=self._count_error)
        self._wanted: deque[_Reading] = deque()
        self._wanted_rows = 0
        self._asked: list[tuple[_Reading, int]] = []
        """What is in the pipeline on its way: a read, and how many rows of it."""
        self._more = asyncio.Event()
        self.errors = 0
        """Connections that failed, broke, or fell silent."""
        self.foreign = 0
        """Values that are no rows."""

    @property
    def problem(self) -> str:
        """Empty while the connection is up."""
        return "" if self._link.up else "is away"

    def read(self, lookups: Sequence[Lookup]) -> Read:
        """Queues it."""
        future: Read = asyncio.get_running_loop().create_future()
        if not self._link.up or self._wanted_rows + len(lookups) > _WANTED_MAX:
            future.set_result(None)
            return future
        self._wanted.append(_Reading(lookups, future))
        self._wanted_rows += len(lookups)
        self._more.set()
        return future

    async def serve(self) -> None:
        """Asks Redis for what is wanted; a task of the lifecycle."""
        try:
            await self._link.run(self._answer_all, self._fail_all)
        finally:
            self._fail_all()

    def _count_error(self) -> None:
        self.errors += 1

    async def _answer_all(self, client: Redis) -> None:
        while True:
            await self._more.wait()
            lookups = self._take()
            keys: dict[str, list[Lookup]] = {}
            for lookup in lookups:
                view = lookup.view
                keys.setdefault(row_key(view.entity, lookup.entity_id, team=view.team), []).append(lookup)
            pipeline = client.pipeline(transaction=False)
            for key, views in keys.items():
                pipeline.execute_command("HMGET", key, *[lookup.view.name for lookup in views])
            async with asyncio.timeout(SILENCE_S):
                answers = await pipeline.execute(raise_on_error=False)
            found: dict[tuple[str, str, str, str], StoredRow | None] = {}
            for views, answer in zip(keys.values(), answers, strict=True):
                for lookup, value in zip(views, self._values(answer, len(views)), strict=True):
                    found[_place(lookup)] = self._row(value)
            self._deliver([found[_place(lookup)] for lookup in lookups])

    def _take(self) -> list[Lookup]:
        """The next rows to ask for, of one read or several."""
        lookups: list[Lookup] = []
        while self._wanted and len(lookups) < _PIPELINE_MAX:
            reading = self._wanted[0]
            piece = reading.lookups[reading.asked : reading.asked + _PIPELINE_MAX - len(lookups)]
            reading.asked += len(piece)
            self._asked.append((reading, len(piece)))
            lookups += piece
            if reading.asked == len(reading.lookups):
                self._wanted.popleft()
        self._wanted_rows -= len(lookups)
        if not self._wanted:
            self._more.clear()
        return lookups

    def _deliver(self, rows: Sequence[StoredRow | None]) -> None:
        asked, self._asked = self._asked, []
        at = 0
        for reading, count in asked:
            reading.rows += rows[at : at + count]
            at += count
            if len(reading.rows) == len(reading.lookups) and not reading.future.done():
                reading.future.set_result(reading.rows)

    def _fail_all(self) -> None:
        """Nobody waits any longer."""
        readings = [*(reading for reading, _ in self._asked), *self._wanted]
        self._asked = []
        self._wanted.clear()
        self._wanted_rows = 0
        self._more.clear()
        for reading in readings:
            if not reading.future.done():
                reading.future.set_result(None)

    def _values(self, answer: object, count: int) -> Sequence[object]:
        if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
            self.foreign += 1
            return [None] * count
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, list) or len(answer) != count:
            raise RedisError("what answers at the address of Redis is none")
        return answer

    def _row(self, value: object) -> StoredRow | None:
        if not isinstance(value, bytes):
            return None
        row = decode_row(value)
        if row is None:
            self.foreign += 1
        return row


def _place(lookup: Lookup) -> tuple[str, str, str, str]:
    view = lookup.view
    return view.team, view.entity, view.name, lookup.entity_id
