"""Reads what rules need to see. Long windows change little in a moment, so they are read less often than short ones."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from services.monitor.domain.aggregate import Cell
from services.monitor.domain.evidence import MetricSum
from services.monitor.domain.judging import Seen
from services.monitor.domain.measures import BY_CONFIDENCE, ERRORS, REQUESTS
from services.monitor.domain.seasonal import HOUR_MINUTES, compared_hours, deviation, last_hour
from services.monitor.domain.sights import PLATFORM, Measured, Needs, read_again_after_s
from services.monitor.domain.window import minute_of, minute_start
from services.monitor.ports import UsageStore
from services.monitor.ports_alerts import DriftReports, Span, Version, WindowReader

_NAMES = (REQUESTS[0], ERRORS, BY_CONFIDENCE)
_MINUTE_S = 60


class Measuring:
    """Reads windows of all models, and keeps what was read of long ones for a while."""

    def __init__(self, *, reader: WindowReader, usage: UsageStore, drift: DriftReports) -> None:
        self._reader = reader
        self._usage = usage
        self._drift = drift
        self._kept: dict[tuple[int, bool], tuple[datetime, float, Mapping[Version, Cell]]] = {}
        self._hour = -1
        self._deviations: Mapping[str, float] = {}

    async def measured(self, needs: Needs, now: datetime) -> Measured:
        """All that is needed. Windows are rounded outward to whole minutes, as those of GetModelMetrics are."""
        windows: dict[Version, dict[int, Seen]] = {}
        empty: dict[int, Seen] = {}
        for length, (seconds, cells) in (await self._cells(needs, now)).items():
            empty[length] = Seen(seconds)
            for version, cell in cells.items():
                windows.setdefault(version, {})[length] = Seen(seconds, cell)
        for length, outcomes in (await self._outcomes(needs, now)).items():
            for version, sums in outcomes.items():
                of_version = windows.setdefault(version, {})
                before = of_version.get(length) or empty.get(length) or Seen(float(length))
                of_version[length] = Seen(before.seconds, before.cell, sums)
        for length in needs.hosts:
            span = _span(length, now)
            usage = await self._usage.average(span.first, span.end)
            windows.setdefault(PLATFORM, {})[length] = Seen(float(length), usage=usage)
        drift = await self._drift.newest() if needs.drift else {}
        if needs.deviation:
            await self._look_at_hours(minute_of(now))
        return Measured(windows, drift, self._deviations if needs.deviation else {}, empty)

    async def _cells(self, needs: Needs, now: datetime) -> Mapping[int, tuple[float, Mapping[Version, Cell]]]:
        wanted = {length: (length, length in needs.sketched) for length in needs.windows}
        self._kept = {key: kept for key, kept in self._kept.items() if key in wanted.values()}
        stale = [length for length, key in wanted.items() if self._stale(key, now)]
        spans = {length: _span(length, now) for length in stale}
        sketched = {spans[length] for length in stale if length in needs.sketched}
        read = await self._reader.cells(list(dict.fromkeys(spans.values())), sketched=sketched, names=_NAMES)
        for length, span in spans.items():
            seconds = (now - minute_start(span.first)).total_seconds()
            self._kept[wanted[length]] = (now, seconds, read[span])
        return {length: self._kept[key][1:] for length, key in wanted.items()}

    def _stale(self, key: tuple[int, bool], now: datetime) -> bool:
        kept = self._kept.get(key)
        return kept is None or now - kept[0] >= timedelta(seconds=read_again_after_s(key[0]))

    async def _outcomes(self, needs: Needs, now: datetime) -> Mapping[int, Mapping[Version, Mapping[str, MetricSum]]]:
        if not needs.outcomes:
            return {}
        spans = {length: _span(length, now) for length in needs.outcomes}
        names: Collection[str] = {name for wanted in needs.outcomes.values() for name in wanted}
        read = await self._reader.outcomes(list(dict.fromkeys(spans.values())), names)
        return {length: read[span] for length, span in spans.items()}

    async def _look_at_hours(self, minute: int) -> None:
        """The last full hour against earlier ones, once an hour."""
        hour = last_hour(minute)
        if hour == self._hour:
            return
        hours = {Span(first, first + HOUR_MINUTES): first for first in (hour, *compared_hours(hour))}
        read = await self._reader.cells(list(hours), sketched=(), names=(REQUESTS[0],))
        counts: dict[str, dict[int, int]] = {}
        for span, cells in read.items():
            for (model, _), cell in cells.items():
                of_model = counts.setdefault(model, {})
                of_model[hours[span]] = of_model.get(hours[span], 0) + cell.counts[REQUESTS]
        found = {model: deviation(hour, of_model) for model, of_model in counts.items()}
        self._deviations = {model: value for model, value in found.items() if value is not None}
        self._hour = hour


def _span(length_s: int, now: datetime) -> Span:
    return Span(minute_of(now - timedelta(seconds=length_s)), minute_of(now) + 1)
