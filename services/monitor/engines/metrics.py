"""Answers how models do, over any window that is kept."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.clock import Clock
from services.common.names import SemanticVersion, check_deployment_name, check_model_name, check_version
from services.monitor.domain.aggregate import Cell, merged
from services.monitor.domain.figures import Figures, Usage, figures
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.window import Window, minute_start, parse_step, window
from services.monitor.ports import MetricQuery, MetricReader, UsageStore


@dataclass(frozen=True)
class ModelReport:
    """How a model, or one version of it, did."""

    model: str
    version: str
    figures: Figures
    usage: Usage


@dataclass(frozen=True)
class Point:
    """How it did within one step."""

    start: datetime
    version: str
    figures: Figures


class Metrics:
    """Reads cells, adds them up, makes figures of them."""

    def __init__(self, *, reader: MetricReader, usage: UsageStore, clock: Clock) -> None:
        self._reader = reader
        self._usage = usage
        self._clock = clock

    async def model(
        self, model: str, *, version: str, deployment: str, start: datetime | None, end: datetime | None
    ) -> ModelReport:
        """The metrics of one version, or of all together where `version` is empty."""
        span = window(start, end, now=self._clock.now())
        cells = await self._read(model, version, deployment, span)
        asked = check_version(version) if version else ""
        # Requests refused before a version was chosen belong to none: they do not make one version two.
        seen = {found for (found, _), cell in cells.items() if found and cell.counts[REQUESTS]}
        named = asked or (next(iter(seen)) if len(seen) == 1 else "")
        total = merged(cells.values())
        usage = await self._usage.average(span.first, span.end)
        return ModelReport(model, named, figures(total, seconds=span.seconds), usage)

    async def versions(self, model: str, *, start: datetime | None, end: datetime | None) -> Sequence[ModelReport]:
        """The metrics of each version that took requests, in ascending order of version."""
        span = window(start, end, now=self._clock.now())
        cells = await self._read(model, "", "", span)
        usage = await self._usage.average(span.first, span.end)
        by_version: dict[str, list[Cell]] = {}
        for (found, _), cell in cells.items():
            if found and cell.counts[REQUESTS]:
                by_version.setdefault(found, []).append(cell)
        return [
            ModelReport(model, found, figures(merged(by_version[found]), seconds=span.seconds), usage)
            for found in sorted(by_version, key=SemanticVersion.parse)
        ]

    async def points(
        self, model: str, *, version: str, start: datetime | None, end: datetime | None, granularity: str
    ) -> Sequence[Point]:
        """The metrics as a time series, oldest first; steps without requests are left out."""
        step = parse_step(granularity)
        now = self._clock.now()
        span = window(start, end, now=now, step=step)
        cells = await self._read(model, version, "", span, step_minutes=step.minutes)
        by_step: dict[int, list[Cell]] = {}
        for (_, minute), cell in cells.items():
            if cell.counts[REQUESTS]:
                by_step.setdefault(minute, []).append(cell)
        shown = check_version(version) if version else ""
        length = timedelta(minutes=step.minutes)
        return [
            Point(begin, shown, figures(merged(by_step[minute]), seconds=_passed_s(begin, length, now)))
            for minute in sorted(by_step)
            for begin in (minute_start(minute),)
        ]

    async def watch(
        self, model: str, *, version: str, window_minutes: int, period_s: float
    ) -> AsyncIterator[ModelReport]:
        """The metrics over the last minutes, again and again."""
        while True:
            start = self._clock.now() - timedelta(minutes=window_minutes)
            yield await self.model(model, version=version, deployment="", start=start, end=None)
            await self._clock.sleep(period_s)

    async def _read(
        self, model: str, version: str, deployment: str, span: Window, *, step_minutes: int = 0
    ) -> dict[tuple[str, int], Cell]:
        query = MetricQuery(
            model=check_model_name(model),
            version=check_version(version) if version else None,
            deployment=check_deployment_name(deployment) if deployment else None,
            first=span.first,
            end=span.end,
            step_minutes=step_minutes,
        )
        return dict(await self._reader.read(query))


def _passed_s(begin: datetime, length: timedelta, now: datetime) -> float:
    """How much of a step has passed: the last one is not over yet."""
    return max(1.0, min(length, now - begin).total_seconds())
