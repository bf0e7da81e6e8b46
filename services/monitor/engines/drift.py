"""Drift reports: one each hour of every version with a baseline, and whenever someone asks."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name, check_version
from services.common.telemetry.logging import get_logger
from services.monitor.domain.aggregate import merged
from services.monitor.domain.drift.accuracy import expected_accuracy
from services.monitor.domain.drift.reports import JOINT_DRIFT, PREDICTIONS_MIN, Baseline, Report, Span, anomalies
from services.monitor.domain.drift.slices import hour_of, outward
from services.monitor.domain.drift.summary import Summary
from services.monitor.domain.drift.verdict import NONE, SEVERITIES, Thresholds, judge
from services.monitor.domain.figures import Figures, figures
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.window import minute_of
from services.monitor.engines.baselines import check_request_id
from services.monitor.ports import MetricQuery, MetricReader
from services.monitor.ports_drift import BaselineStore, DriftBoard, ReportStore, SliceStore

log = get_logger(__name__)

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_LOOK_PERIOD_S = 60.0
_LATE = timedelta(minutes=5)
"""How long after its end an hour is judged: batchers may have been without the monitor for a while."""
_HOURS_BACK = 3
"""Hours whose reports are made up for where no monitor ran."""
_SEASON_DAYS = 7


class Drift:
    """Owns reports. `run` is its background task; `keep` removes old ones."""

    def __init__(
        self,
        *,
        baselines: BaselineStore,
        reports: ReportStore,
        slices: SliceStore,
        reader: MetricReader,
        board: DriftBoard,
        clock: Clock,
        retention_days: int,
        limits: Thresholds | None = None,
    ) -> None:
        self._baselines = baselines
        self._reports = reports
        self._slices = slices
        self._reader = reader
        self._board = board
        self._clock = clock
        self._retention = timedelta(days=retention_days)
        self.limits = limits or Thresholds()

    async def create(
        self, model: str, version: str, *, start: datetime | None, end: datetime | None, request_id: str
    ) -> Report:
        """Compares a window now, by default the last hour. Raises BASELINE_REQUIRED and TOO_FEW_PREDICTIONS."""
        check_request_id(request_id)
        model, version = check_model_name(model), check_version(version)
        if request_id and (made := await self._reports.made(model, request_id)) is not None:
            return made
        report = await self._make(model, version, self._window(start, end))
        return await self._reports.add(report, request_id=request_id, scheduled=False)

    async def get(self, model: str, report_id: str) -> Report:
        """One. Raises DRIFT_REPORT_NOT_FOUND."""
        found = await self._reports.get(check_model_name(model), report_id)
        if found is None:
            raise MeshError(
                Reason.DRIFT_REPORT_NOT_FOUND,
                f"model {model!r} has no drift report {report_id!r}; ListDriftReports shows those that there are",
                metadata={"model_name": model, "report_id": report_id[:100]},
            )
        return found

    async def find(
        self,
        model: str,
        version: str,
        *,
        min_severity: str,
        start: datetime | None,
        end: datetime | None,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Report]:
        """Those of a model, newest first. Raises INVALID_FIELD for a severity that there is not."""
        if min_severity and min_severity not in SEVERITIES:
            raise invalid("min_severity", min_severity, f"{', '.join(SEVERITIES)}, or none for all")
        last = end or self._clock.now()
        first = start or last - _DAY
        if first > last:
            raise invalid("end_time", last.isoformat(), f"a moment after start_time ({first.isoformat()})")
        return await self._reports.find(
            check_model_name(model),
            check_version(version) if version else "",
            severities=SEVERITIES[SEVERITIES.index(min_severity or NONE) :],
            span=Span(first, last),
            after=after,
            limit=limit,
        )

    async def run(self) -> None:
        """Makes the reports that are due, every minute."""
        while True:
            await self._clock.sleep(_LOOK_PERIOD_S)
            try:
                await self.make_due()
                self._board.drift(await self._reports.newest(since=self._clock.now() - 3 * _HOUR))
            except MeshError as error:
                log.warning("drift reports not made; tried again", reason=error.message)

    async def make_due(self) -> int:
        """Makes the reports of the last whole hours that are not made yet; how many."""
        last = hour_of(self._clock.now() - _LATE)
        made = 0
        for baseline in await self._baselines.all_active():
            for back in range(_HOURS_BACK, 0, -1):
                span = Span(last - back * _HOUR, last - (back - 1) * _HOUR)
                if span.end > baseline.created_at and not await self._reports.has(baseline.baseline_id, span):
                    made += await self._make_scheduled(baseline, span)
        return made

    async def keep(self) -> None:
        """Puts settled slices together and removes what is past retention."""
        now = self._clock.now()
        await self._slices.compact(now=now)
        await self._reports.forget(before=now - self._retention)

    async def _make_scheduled(self, baseline: Baseline, span: Span) -> bool:
        try:
            report = await self._make(baseline.model, baseline.version, span)
        except MeshError as error:
            if error.reason not in (Reason.TOO_FEW_PREDICTIONS, Reason.BASELINE_REQUIRED):
                raise
            return False
        if report.severity != NONE:
            log.warning("drift", model=report.model, version=report.version, severity=report.severity)
        await self._reports.add(report, request_id="", scheduled=True)
        return True

    async def _make(self, model: str, version: str, span: Span) -> Report:
        found = await self._baselines.active(model, version)
        if found is None:
            raise MeshError(
                Reason.BASELINE_REQUIRED,
                f"{model} {version} has no active baseline to compare with; make one with CreateBaseline",
                metadata={"model_name": model, "version": version},
            )
        baseline, old = found
        window = await self._slices.read(model, version, span)
        if min(window.rows, window.seen) < PREDICTIONS_MIN:
            raise MeshError(
                Reason.TOO_FEW_PREDICTIONS,
                f"{model} {version} has {window.rows} sampled rows from {span.start.isoformat()} to "
                f"{span.end.isoformat()}; a comparison needs {PREDICTIONS_MIN}",
                metadata={"model_name": model, "version": version, "row_count": str(window.rows)},
            )
        chance = np.random.default_rng(minute_of(span.start))
        verdict = await asyncio.to_thread(judge, old, window, chance=chance, thresholds=self.limits)
        now_figures, before = await self._traffic(model, version, span)
        names = [*anomalies(now_figures, requests_before=before)]
        if verdict.joint_drift(self.limits):
            names.append(JOINT_DRIFT)
        return Report(
            report_id=f"dr_{secrets.token_hex(8)}",
            model=model,
            version=version,
            baseline_id=baseline.baseline_id,
            window=span,
            row_count=window.seen,
            severity=verdict.severity,
            features=verdict.features,
            created_at=self._clock.now(),
            auc=verdict.domain.auc if verdict.domain is not None else 0.0,
            expected_accuracy=await self._expected(baseline, old, window),
            anomalies=names,
        )

    async def _expected(self, baseline: Baseline, old: Summary, window: Summary) -> float | None:
        """By the confidences, corrected by what outcomes said of the baseline's window."""
        known = None
        if baseline.window is not None:
            known = await self._reports.accuracy(baseline.model, baseline.version, baseline.window)
        return expected_accuracy(window.mean_confidence, baseline_confidence=old.mean_confidence, baseline=known)

    async def _traffic(self, model: str, version: str, span: Span) -> tuple[Figures, Sequence[int]]:
        """The window's figures, and how many requests came in the same hours of each of the days before."""
        total, _ = await self._figures(model, version, span)
        before = []
        for day in range(1, _SEASON_DAYS + 1):
            _, count = await self._figures(model, version, Span(span.start - day * _DAY, span.end - day * _DAY))
            before.append(count)
        return total, before

    async def _figures(self, model: str, version: str, span: Span) -> tuple[Figures, int]:
        query = MetricQuery(
            model=model, version=version, deployment=None, first=minute_of(span.start), end=minute_of(span.end)
        )
        cell = merged((await self._reader.read(query)).values())
        return figures(cell, seconds=(span.end - span.start).total_seconds()), cell.counts[REQUESTS]

    def _window(self, start: datetime | None, end: datetime | None) -> Span:
        now = self._clock.now()
        last = end or now
        first = start or last - _HOUR
        if first >= last:
            raise invalid("window.end_time", last.isoformat(), f"a moment after start_time ({first.isoformat()})")
        if first > now:
            raise invalid("window.start_time", first.isoformat(), "a moment that has passed")
        if last - first > self._retention:
            raise invalid("window.start_time", first.isoformat(), f"at most {self._retention.days} days before the end")
        return Span(*outward(first, last))
