"""Baselines in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.errors import MeshError, Reason
from services.monitor.adapters.database import transaction
from services.monitor.domain.drift.reports import Baseline, Span
from services.monitor.domain.drift.summary import Summary

_CLAIM = timedelta(minutes=10)
_COLUMNS = """baseline_id, model_id, version_id, created_at, created_by, sample_uri, window_start, window_end, status,
              status_message, row_count"""
_FIELDS = 11
_CREATE = text("""
    INSERT INTO drift_baselines (baseline_id, model_id, version_id, created_at, created_by, sample_uri, window_start,
                                 window_end, status, request_id)
    VALUES (:baseline_id, :model, :version, :created_at, :created_by, :sample_uri, :start, :end, 'pending',
            nullif(:request_id, ''))
    ON CONFLICT (model_id, request_id) DO NOTHING
""")
_MADE = text(f"SELECT {_COLUMNS} FROM drift_baselines WHERE model_id = :model AND request_id = :request_id")  # noqa: S608
_GET = text(f"SELECT {_COLUMNS} FROM drift_baselines WHERE model_id = :model AND baseline_id = :baseline_id")  # noqa: S608
_FIND = text(f"""
    SELECT {_COLUMNS} FROM drift_baselines
    WHERE model_id = :model AND (:version = '' OR version_id = :version)
      AND (CAST(:created_at AS timestamptz) IS NULL OR (created_at, baseline_id) < (:created_at, :baseline_id))
    ORDER BY created_at DESC, baseline_id DESC LIMIT :limit
""")  # noqa: S608 - names out of this file
_DELETE = text("DELETE FROM drift_baselines WHERE model_id = :model AND baseline_id = :baseline_id")
_TAKE = text(f"""
    UPDATE drift_baselines SET claimed_until = :until
    WHERE baseline_id = (
        SELECT baseline_id FROM drift_baselines
        WHERE status = 'pending' AND (claimed_until IS NULL OR claimed_until < :now)
        ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING {_COLUMNS}
""")  # noqa: S608 - names out of this file
_SUPERSEDE = text("""
    UPDATE drift_baselines SET status = 'superseded', summary = NULL
    WHERE model_id = :model AND version_id = :version AND status = 'active'
""")
_ACTIVATE = text("""
    UPDATE drift_baselines SET status = 'active', row_count = :rows, summary = :summary
    WHERE baseline_id = :baseline_id AND status = 'pending'
""")
_FAIL = text("""
    UPDATE drift_baselines SET status = 'failed', status_message = :message
    WHERE baseline_id = :baseline_id AND status = 'pending'
""")
_ACTIVE = text(f"""
    SELECT {_COLUMNS}, summary FROM drift_baselines
    WHERE model_id = :model AND version_id = :version AND status = 'active'
""")  # noqa: S608 - names out of this file
_ALL_ACTIVE = text(f"SELECT {_COLUMNS} FROM drift_baselines WHERE status = 'active'")  # noqa: S608 - as above
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:model || ' ' || :version, 8))")


class PostgresBaselineStore:
    """A `BaselineStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, baseline: Baseline, *, request_id: str) -> Baseline:
        """Adds one, once a request id."""
        window = baseline.window
        asked = {
            "baseline_id": baseline.baseline_id,
            "model": baseline.model,
            "version": baseline.version,
            "created_at": baseline.created_at,
            "created_by": baseline.created_by,
            "sample_uri": baseline.sample_uri,
            "start": window.start if window else None,
            "end": window.end if window else None,
            "request_id": request_id,
        }
        async with transaction(self._engine) as connection:
            await connection.execute(_CREATE, asked)
            if not request_id:
                return baseline
            found = _baseline((await connection.execute(_MADE, asked)).one())
        if (found.version, found.sample_uri, found.window) != (baseline.version, baseline.sample_uri, window):
            raise MeshError(
                Reason.REQUEST_ID_REUSED,
                f"request_id {request_id!r} made baseline {found.baseline_id} of another source; take a new one",
                metadata={"request_id": request_id, "baseline_id": found.baseline_id},
            )
        return found

    async def get(self, model: str, baseline_id: str) -> Baseline | None:
        """One."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_GET, {"model": model, "baseline_id": baseline_id})).first()
        return None if row is None else _baseline(row)

    async def find(
        self, model: str, version: str, *, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Baseline]:
        """Newest first."""
        created_at, baseline_id = after or (None, "")
        asked = {
            "model": model,
            "version": version,
            "created_at": created_at,
            "baseline_id": baseline_id,
            "limit": limit,
        }
        async with transaction(self._engine) as connection:
            return [_baseline(row) for row in await connection.execute(_FIND, asked)]

    async def delete(self, model: str, baseline_id: str) -> bool:
        """Whether there was one."""
        async with transaction(self._engine) as connection:
            done = await connection.execute(_DELETE, {"model": model, "baseline_id": baseline_id})
            return bool(done.rowcount)

    async def claim(self, *, now: datetime) -> Baseline | None:
        """A pending one that nobody reads now."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_TAKE, {"now": now, "until": now + _CLAIM})).first()
        return None if row is None else _baseline(row)

    async def activate(self, baseline: Baseline, summary: Summary) -> None:
        """It takes the place of the one before, both or neither. Where it was deleted meanwhile, nothing changes."""
        asked = {
            "model": baseline.model,
            "version": baseline.version,
            "baseline_id": baseline.baseline_id,
            "rows": summary.rows,
            "summary": summary.encode(),
        }
        async with transaction(self._engine) as connection:
            await connection.execute(_LOCK, asked)
            if (await connection.execute(_GET, asked)).first() is not None:
                await connection.execute(_SUPERSEDE, asked)
                await connection.execute(_ACTIVATE, asked)

    async def fail(self, baseline: Baseline, message: str) -> None:
        """It cannot be read."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FAIL, {"baseline_id": baseline.baseline_id, "message": message})

    async def active(self, model: str, version: str) -> tuple[Baseline, Summary] | None:
        """The version's."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_ACTIVE, {"model": model, "version": version})).first()
        return None if row is None else (_baseline(row), Summary.decode(bytes(row[_FIELDS])))

    async def all_active(self) -> Sequence[Baseline]:
        """Of every version."""
        async with transaction(self._engine) as connection:
            return [_baseline(row) for row in await connection.execute(_ALL_ACTIVE)]


def _baseline(row: Row[Any]) -> Baseline:
    baseline_id, model, version, created_at, created_by, uri, start, end, status, message, rows = row[:_FIELDS]
    window = Span(start, end) if start is not None else None
    return Baseline(baseline_id, model, version, created_at, created_by, uri, window, status, message, int(rows))
