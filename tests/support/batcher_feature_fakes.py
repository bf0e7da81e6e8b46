"""A feature store in memory that passes the contract tests of the real ones, and versions with views to join."""

import asyncio
from collections.abc import Mapping, Sequence

from services.batcher.domain.feature_views import Lookup, StoredRow
from services.batcher.domain.features import JoinPlan
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.feature_ports import Read
from services.common.clock import Clock
from services.common.feature_view import FeatureView
from services.common.schema import DataType, ModelSchema, TensorSpec

SCHEMA = ModelSchema(
    (
        TensorSpec("age", DataType.INT64),
        TensorSpec("ctr", DataType.FP32),
        TensorSpec("embedding", DataType.FP32, (2,)),
        TensorSpec("x", DataType.FP32),
    ),
    (TensorSpec("y", DataType.FP32),),
)
STATS = FeatureView("user_stats", "user_id", {"age": "int", "ctr": "float"})
VECTORS = FeatureView("user_vectors", "user_id", {"embedding": "array<float>"})


def version(*views: FeatureView, version: str = "v1.0.0", team: str = "") -> ServedVersion:
    """A version that takes these views."""
    return ServedVersion("m", version, "d", SCHEMA, feature_views=views, team=team)


def joining(*views: FeatureView, team: str = "") -> JoinPlan:
    """How its features are joined."""
    return JoinPlan(version(*views, team=team))


class MemoryFeatures:
    """A `FeatureStore`. `delay_s` is how long an answer takes; `problem` as an operator sees it."""

    def __init__(self, clock: Clock, *, delay_s: float = 0.001) -> None:
        self._clock = clock
        self.delay_s = delay_s
        self.problem = ""
        self.fails = False
        self.reads: list[list[str]] = []
        """What was asked for: the entities' ids, read by read."""
        self._rows: dict[tuple[str, str, str, str], StoredRow] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def put(
        self,
        view: str,
        entity: str,
        entity_id: str,
        values: Mapping[str, object],
        *,
        at_s: float | None,
        team: str = "",
    ) -> None:
        """Stores a row."""
        self._rows[team, view, entity, entity_id] = StoredRow(values, at_s, 100)

    def read(self, lookups: Sequence[Lookup]) -> Read:
        """Answers after the delay."""
        future: Read = asyncio.get_running_loop().create_future()
        self.reads.append([lookup.entity_id for lookup in lookups])
        rows = [
            self._rows.get((lookup.view.team, lookup.view.name, lookup.view.entity, lookup.entity_id))
            for lookup in lookups
        ]
        task = asyncio.create_task(self._answer(future, rows), name="features")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return future

    async def _answer(self, future: Read, rows: Sequence[StoredRow | None]) -> None:
        await self._clock.sleep(self.delay_s)
        if not future.done():
            future.set_result(None if self.fails else rows)
