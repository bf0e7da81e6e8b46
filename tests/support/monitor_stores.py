"""Stands in for the monitor's database in tests of its engines; contract tests hold it to what the real one does."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from services.common.errors import MeshError, Reason
from services.monitor.domain.aggregate import SECOND_US, Cell, Cells
from services.monitor.domain.evidence import WatchKey, head_end
from services.monitor.domain.figures import Usage
from services.monitor.domain.gpus import GpuUse
from services.monitor.domain.labels import Prediction, joinable
from services.monitor.domain.log_rows import LogRow
from services.monitor.domain.outcomes import Outcome, OutcomeKey, Reporter, predicted_of
from services.monitor.domain.records import ShadowExample, StreamKey
from services.monitor.domain.seconds import SecondCell, SecondKey
from services.monitor.domain.shadows import ShadowPair, newest
from services.monitor.domain.team_tallies import TeamTally
from services.monitor.domain.usage import Usage as TeamUsage
from services.monitor.domain.window import minute_of
from services.monitor.ports import Applied, Batch, LiveFigure, MetricQuery, ModelUse


class MemoryStore:
    """A `LogStore` and a `MetricReader`. `fail_next` makes the next writes fail, "before" or "after" they took hold."""

    def __init__(self) -> None:
        self.cells = Cells()
        self.rows: list[LogRow] = []
        self.positions: dict[StreamKey, int] = {}
        self.dropped: dict[StreamKey, int] = {}
        self.drops: list[tuple[int, int]] = []
        self.seconds: list[tuple[SecondKey, SecondCell]] = []
        self.watches: dict[WatchKey, datetime] = {}
        self.asked: dict[WatchKey, datetime] = {}
        self.under_test: dict[str, Prediction] = {}
        self.sampled: dict[str, Prediction] = {}
        self.shadow_examples: dict[ShadowPair, list[ShadowExample]] = {}
        self.outcomes: dict[tuple[OutcomeKey, str], Outcome] = {}
        """By what they are of and the team that reported them."""
        self.may_join: Callable[[Reporter, str], bool] = lambda _reporter, _model: True
        self.usage = TeamUsage()
        self.fail_next: list[str] = []
        self.silent = False
        """Whether positions cannot be read either."""

    async def position(self, stream: StreamKey) -> int:
        """The stored position."""
        if self.silent:
            raise _away()
        return self.positions.get(stream, 0)

    async def apply(self, batch: Batch) -> Applied:
        """Counts a batch, or fails as asked."""
        failure = self.fail_next.pop(0) if self.fail_next else ""
        if failure == "before":
            raise _away()
        applied = self._apply(batch)
        if failure == "after":
            raise _away()
        return applied

    async def read(self, query: MetricQuery) -> Mapping[tuple[str, int], Cell]:
        """The cells by version and step."""
        step = query.step_minutes or max(1, query.end - query.first)
        found: dict[tuple[str, int], Cell] = {}
        for key, cell in self.cells.items():
            if (
                key.model == query.model
                and query.first <= key.minute < query.end
                and query.version in (None, key.version)
                and query.deployment in (None, key.deployment)
            ):
                begin = query.first + (key.minute - query.first) // step * step
                found.setdefault((key.version, begin), Cell()).merge(cell)
        return found

    def _apply(self, batch: Batch) -> Applied:
        position = self.positions.get(batch.stream, 0)
        if position >= batch.last:
            return Applied.COUNTED_BEFORE
        if position != batch.base:
            return Applied.CONFLICT
        self.positions[batch.stream] = batch.last
        self.cells.merge(batch.cells)
        self.rows.extend(batch.rows)
        self.usage.merge(batch.usage)
        self.seconds.extend(batch.seconds.items())
        for key, begins in self.watches.items():
            if begins == key.start and (key.model, minute_of(key.start)) in batch.coarse:
                self.watches[key] = head_end(key.start)
        if dropped := batch.dropped_total - self.dropped.get(batch.stream, 0):
            self.drops.append((batch.taken_us // SECOND_US, dropped))
        self.dropped[batch.stream] = batch.dropped_total
        for pair, examples in batch.examples.items():
            self.shadow_examples[pair] = newest([*self.shadow_examples.get(pair, ()), *examples])
        self._join(batch)
        return Applied.COUNTED

    def _join(self, batch: Batch) -> None:
        arrived: dict[str, Prediction] = {}
        for prediction in joinable(batch.predictions, batch.rows):
            known = self.under_test if prediction in batch.predictions else self.sampled
            for held in (known, arrived):
                first = held.get(prediction.request_id, prediction)
                held[prediction.request_id] = min(first, prediction, key=lambda found: found.rank)
        for (key, team), outcome in self.outcomes.items():
            found = arrived.get(key.request_id)
            if outcome.predicted is None and found is not None and self.may_join(outcome.reporter, found.model):
                self.outcomes[key, team] = outcome.joined(predicted_of(found, key.instance_index))


class MemoryUsageStore:
    """A `UsageStore`."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, Usage]] = []

    async def add(self, _host: str, minute: int, usage: Usage) -> None:
        """Keeps a sample."""
        self._samples.append((minute, usage))

    async def average(self, first: int, end: int) -> Usage:
        """The mean of the samples in the window."""
        found = [usage for minute, usage in self._samples if first <= minute < end]
        if not found:
            return Usage()
        return Usage(
            sum(usage.cpu_percent for usage in found) / len(found),
            sum(usage.memory_percent for usage in found) / len(found),
            _mean([usage.gpu_utilization for usage in found]),
            _mean([usage.gpu_memory_percent for usage in found]),
        )

    async def forget(self, before: int) -> None:
        """Drops older samples."""
        self._samples = [(minute, usage) for minute, usage in self._samples if minute >= before]


class SilentBoard:
    """A `Board` that only remembers what became of chunks."""

    def __init__(self) -> None:
        self.chunks: list[str] = []
        self.firing: dict[str, int] = {}
        self.tallies: list[TeamTally] = []

    def chunk(self, result: str, requests: int) -> None:
        """Remembers."""
        self.chunks.append(result)

    def flushed(self, result: str, seconds: float) -> None:
        """Ignores."""

    def dropped(self, batcher_id: str, dropped_total: int) -> None:
        """Ignores."""

    def unkept(self, rows: int) -> None:
        """Ignores."""

    def teams(self, tallies: Sequence[TeamTally]) -> None:
        """Remembers."""
        self.tallies += tallies

    def live(self, figures: Sequence[LiveFigure]) -> None:
        """Ignores."""

    def alerts(self, firing: Mapping[str, int]) -> None:
        """Remembers."""
        self.firing = dict(firing)

    def models(self, uses: Sequence[ModelUse]) -> None:
        """Ignores."""

    def gpus(self, uses: Sequence[GpuUse]) -> None:
        """Ignores."""


def _mean(values: Sequence[float | None]) -> float | None:
    said = [value for value in values if value is not None]
    return sum(said) / len(said) if said else None


def _away() -> MeshError:
    return MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the monitor's database does not answer")
