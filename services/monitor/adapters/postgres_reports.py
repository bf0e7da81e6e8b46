"""Drift reports in PostgreSQL. What outcomes say of a report's window is added up when it is read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.drift.accuracy import Realised
from services.monitor.domain.drift.compare import Bin, Comparison
from services.monitor.domain.drift.reports import Report, Span
from services.monitor.domain.drift.rows import FeatureKey
from services.monitor.domain.drift.verdict import HIGH, MODERATE, NONE, FeatureDrift
from services.monitor.domain.outcomes import ACCURACY
from services.monitor.ports_drift import Severities

_ADD = text("""
    INSERT INTO drift_reports (report_id, model_id, version_id, baseline_id, window_start, window_end, row_count,
                               severity, moderate_count, high_count, feature_count, features, auc, expected_accuracy,
                               anomalies, scheduled, request_id, created_at)
    VALUES (:report_id, :model, :version, :baseline_id, :start, :end, :rows, :severity, :moderate, :high, :count,
            CAST(:features AS jsonb), :auc, :expected, CAST(:anomalies AS text[]), :scheduled,
            nullif(:request_id, ''), :created_at)
    ON CONFLICT DO NOTHING RETURNING report_id
""")
_OUTCOMES = """
    SELECT coalesce(sum(value_count), 0) AS outcomes, coalesce(sum(value_sum), 0) AS correct FROM outcome_sums
    WHERE model_id = {model} AND version_id = {version} AND metric_name = :metric AND granularity = 'minute'
      AND "timestamp" >= {start} AND "timestamp" < {end}
"""
_ACCURACY = text(_OUTCOMES.format(model=":model", version=":version", start=":start", end=":end"))
_OF_REPORT = _OUTCOMES.format(
    model="report.model_id", version="report.version_id", start="report.window_start", end="report.window_end"
)
_SELECT = f"""
    SELECT report_id, model_id, version_id, baseline_id, window_start, window_end, row_count, severity, created_at, auc,
           expected_accuracy, anomalies, said.outcomes, said.correct, {{features}} AS features
    FROM drift_reports AS report CROSS JOIN LATERAL ({_OF_REPORT}) AS said
"""  # noqa: S608 - names out of this file
_WHOLE = _SELECT.format(features="features")
_BARE = _SELECT.format(
    features="(SELECT coalesce(jsonb_agg(one - 'bins'), '[]') FROM jsonb_array_elements(features) AS one)"
)
_GET = text(_WHOLE + "WHERE model_id = :model AND report_id = :report_id")
_MADE = text(_WHOLE + "WHERE model_id = :model AND request_id = :request_id")
_SCHEDULED = text(_WHOLE + "WHERE baseline_id = :baseline_id AND window_start = :start AND scheduled")
_HAS = text("SELECT 1 FROM drift_reports WHERE baseline_id = :baseline_id AND window_start = :start AND scheduled")
_FIND = text(
    _BARE
    + """
    WHERE model_id = :model AND (:version = '' OR version_id = :version)
      AND severity = ANY(CAST(:severities AS text[])) AND created_at >= :start AND created_at < :end
      AND (CAST(:created_at AS timestamptz) IS NULL OR (created_at, report_id) < (:created_at, :report_id))
    ORDER BY created_at DESC, report_id DESC LIMIT :limit
"""
)
_NEWEST = text("""
    SELECT DISTINCT ON (model_id, version_id) model_id, version_id, feature_count, moderate_count, high_count
    FROM drift_reports WHERE created_at >= :since ORDER BY model_id, version_id, window_end DESC, created_at DESC
""")
_FORGET = (
    text("DELETE FROM drift_reports WHERE created_at < :before"),
    text("DELETE FROM drift_baselines WHERE created_at < :before AND status IN ('superseded', 'failed')"),
)


class PostgresReportStore:
    """A `ReportStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, report: Report, *, request_id: str, scheduled: bool) -> Report:
        """Keeps a report, or finds the one that was made before."""
        severities = [feature.severity for feature in report.features]
        asked = {
            "report_id": report.report_id,
            "model": report.model,
            "version": report.version,
            "baseline_id": report.baseline_id,
            "start": report.window.start,
            "end": report.window.end,
            "rows": report.row_count,
            "severity": report.severity,
            "moderate": severities.count(MODERATE),
            "high": severities.count(HIGH),
            "count": len(severities),
            "features": orjson.dumps([_document(feature) for feature in report.features]).decode(),
            "auc": report.auc,
            "expected": report.expected_accuracy,
            "anomalies": list(report.anomalies),
            "scheduled": scheduled,
            "request_id": request_id,
            "created_at": report.created_at,
            "metric": ACCURACY,
        }
        async with transaction(self._engine) as connection:
            if (await connection.execute(_ADD, asked)).first() is not None:
                statement = _GET
            else:
                statement = _SCHEDULED if scheduled else _MADE
            return _report((await connection.execute(statement, asked)).one())

    async def made(self, model: str, request_id: str) -> Report | None:
        """What a call with this id made before."""
        return await self._one(_MADE, {"model": model, "request_id": request_id})

    async def has(self, baseline_id: str, span: Span) -> bool:
        """Whether the schedule has made it."""
        async with transaction(self._engine) as connection:
            found = await connection.execute(_HAS, {"baseline_id": baseline_id, "start": span.start})
            return found.first() is not None

    async def get(self, model: str, report_id: str) -> Report | None:
        """One."""
        return await self._one(_GET, {"model": model, "report_id": report_id})

    async def find(
        self,
        model: str,
        version: str,
        *,
        severities: Sequence[str],
        span: Span,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Report]:
        """Newest first, without bins."""
        created_at, report_id = after or (None, "")
        asked = {
            "model": model,
            "version": version,
            "severities": list(severities),
            "start": span.start,
            "end": span.end,
            "created_at": created_at,
            "report_id": report_id,
            "limit": limit,
            "metric": ACCURACY,
        }
        async with transaction(self._engine) as connection:
            return [_report(row) for row in await connection.execute(_FIND, asked)]

    async def newest(self, *, since: datetime) -> Sequence[Severities]:
        """Of each version."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_NEWEST, {"since": since})
            return [
                Severities(model, version, {NONE: count - moderate - high, MODERATE: moderate, HIGH: high})
                for model, version, count, moderate, high in rows
            ]

    async def accuracy(self, model: str, version: str, span: Span) -> Realised | None:
        """What outcomes say of a window."""
        asked = {"model": model, "version": version, "start": span.start, "end": span.end, "metric": ACCURACY}
        async with transaction(self._engine) as connection:
            count, correct = (await connection.execute(_ACCURACY, asked)).one()
        return Realised(int(count), float(correct) / int(count)) if count else None

    async def forget(self, *, before: datetime) -> None:
        """Removes what is old."""
        async with transaction(self._engine) as connection:
            for statement in _FORGET:
                await connection.execute(statement, {"before": before})

    async def _one(self, statement: Any, asked: dict[str, object]) -> Report | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(statement, {**asked, "metric": ACCURACY})).first()
        return None if row is None else _report(row)


def _document(feature: FeatureDrift) -> dict[str, object]:
    one = feature.comparison
    return {
        "name": feature.key.name,
        "output": feature.key.output,
        "severity": feature.severity,
        "p": feature.p_value,
        "effect": one.effect,
        "raw_p": one.p_value,
        "ks": one.ks,
        "psi": one.psi,
        "chi": one.chi_squared,
        "js": one.jensen_shannon,
        "missing": one.missing,
        "baseline_missing": one.baseline_missing,
        "bins": [_bin_document(one_bin) for one_bin in one.bins],
    }


def _bin_document(one: Bin) -> tuple[str | float, ...]:
    # JSON of the database takes no NUL.
    label = one.label.replace("\0", "\ufffd")
    if one.low is None or one.high is None:
        return label, one.baseline, one.window
    return label, one.baseline, one.window, one.low, one.high


def _feature(document: dict[str, Any]) -> FeatureDrift:
    return FeatureDrift(
        FeatureKey(document["name"], document["output"]),
        document["severity"],
        document["p"],
        Comparison(
            effect=document["effect"],
            p_value=document["raw_p"],
            ks=document["ks"],
            psi=document["psi"],
            chi_squared=document["chi"],
            jensen_shannon=document["js"],
            missing=document["missing"],
            baseline_missing=document["baseline_missing"],
            bins=[Bin(*one) for one in document.get("bins", ())],
        ),
    )


def _report(row: Row[Any]) -> Report:
    count = int(row.outcomes)
    return Report(
        report_id=row.report_id,
        model=row.model_id,
        version=row.version_id,
        baseline_id=row.baseline_id,
        window=Span(row.window_start, row.window_end),
        row_count=int(row.row_count),
        severity=row.severity,
        features=[_feature(document) for document in row.features],
        created_at=row.created_at,
        auc=row.auc,
        expected_accuracy=row.expected_accuracy,
        anomalies=list(row.anomalies),
        realised=Realised(count, float(row.correct) / count) if count else None,
    )
