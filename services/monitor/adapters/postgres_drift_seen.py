"""The newest drift reports, as alert rules see them."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.monitor.adapters.database import transaction
from services.monitor.domain.judging import DriftSeen
from services.monitor.ports_alerts import Version

_CURRENT = timedelta(hours=3)
"""One report is made an hour; what is older says nothing of now."""
_NEWEST = text("""
    SELECT model_id, version_id, severity, severities FROM (
        SELECT DISTINCT ON (model_id, version_id) model_id, version_id, severity, features FROM drift_reports
        WHERE created_at >= :since ORDER BY model_id, version_id, window_end DESC, created_at DESC
    ) AS newest CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(one ->> 'name', one ->> 'severity'), '{}')
        FROM jsonb_array_elements(features) AS one
    ) AS said (severities)
""")


class PostgresDriftReports:
    """A `DriftReports`."""

    def __init__(self, engine: AsyncEngine, *, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def newest(self) -> Mapping[Version, DriftSeen]:
        """Of each version."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_NEWEST, {"since": self._clock.now() - _CURRENT})
            return {(row.model_id, row.version_id): DriftSeen(row.severity, row.severities) for row in rows}
