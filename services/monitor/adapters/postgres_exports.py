"""Exports of the log in PostgreSQL. Whoever claims one gets a new token; with an older one nothing is recorded."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.monitor.adapters.database import transaction
from services.monitor.domain.log_exports import Format, LogExport, Part, Status
from services.monitor.domain.log_search import Position
from services.monitor.ports_log import ExportLease

_COLUMNS = """export_id, model_id, start_time, end_time, format, output_uri, created_by, team, request_id, status,
    status_message, row_count"""
_FIELDS = 12
_PART = (
    """part_number, part_after_time, part_after_id, part_last_time, part_last_id, part_planned, lease_token, attempts"""
)
_SAME = text(f"""
    SELECT {_COLUMNS} FROM log_exports WHERE team = :team AND created_by = :created_by AND request_id = :request_id
""")  # noqa: S608 - names out of this file
_GET = text(f"SELECT {_COLUMNS} FROM log_exports WHERE export_id = :export_id")  # noqa: S608
_INSERT = text("""
    INSERT INTO log_exports
        (export_id, model_id, start_time, end_time, format, output_uri, created_by, team, request_id)
    VALUES (:export_id, :model, :start, :end, :format, :output_uri, :created_by, :team, :request_id)
""")
_WITHDRAW = text("DELETE FROM log_exports WHERE export_id = :export_id AND status = 'pending'")
_CLAIM = text(f"""
    UPDATE log_exports SET status = 'running', lease_owner = :owner, lease_token = lease_token + 1,
        attempts = attempts + 1, lease_until = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE export_id = (
        SELECT export_id FROM log_exports
        WHERE status = 'pending' OR (status = 'running' AND lease_until < clock_timestamp())
        ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}, {_PART}
""")  # noqa: S608
_HELD = "WHERE export_id = :export_id AND lease_token = :token AND status = 'running' RETURNING export_id"
_RENEW = text(f"""
    UPDATE log_exports SET lease_until = clock_timestamp() + make_interval(secs => :lease_s) {_HELD}
""")  # noqa: S608
_PLAN = text(f"""
    UPDATE log_exports SET part_planned = true, part_last_time = CAST(:time AS timestamptz),
        part_last_id = CAST(:id AS uuid) {_HELD}
""")  # noqa: S608
_WRITTEN = text(f"""
    UPDATE log_exports SET part_number = :number + 1, row_count = row_count + :rows, part_planned = false,
        part_after_time = CAST(:time AS timestamptz), part_after_id = CAST(:id AS uuid), part_last_time = NULL,
        part_last_id = NULL, attempts = 0 {_HELD}
""")  # noqa: S608
_END = text(f"""
    UPDATE log_exports SET status = :status, status_message = :message, row_count = row_count + :rows,
        completed_at = clock_timestamp(), lease_until = NULL {_HELD}
""")  # noqa: S608
_FORGET = text("DELETE FROM log_exports WHERE completed_at < :before")


class PostgresExportStore:
    """An `ExportStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, export: LogExport) -> LogExport:
        """Keeps an export."""
        try:
            async with transaction(self._engine) as connection:
                known = await _same(connection, export)
                if known is None:
                    await connection.execute(_INSERT, _values(export))
                    return export
        except IntegrityError as error:
            # Another was quicker: the same call, or one to the same folder.
            async with transaction(self._engine) as connection:
                known = await _same(connection, export)
            if known is None:
                raise _in_use(export) from error
        if not known.asks_the_same(export):
            raise MeshError(
                Reason.REQUEST_ID_REUSED,
                f"request_id {export.request_id!r} was used for another export, {known.export_id}; use a new one",
                metadata={"export_id": known.export_id},
            )
        return known

    async def withdraw(self, export_id: str) -> None:
        """Forgets it."""
        async with transaction(self._engine) as connection:
            await connection.execute(_WITHDRAW, {"export_id": export_id})

    async def get(self, export_id: str) -> LogExport | None:
        """One export."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_GET, {"export_id": export_id})).first()
        return None if row is None else _export(row)

    async def claim(self, owner: str, *, lease_s: float) -> ExportLease | None:
        """The oldest that waits."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_CLAIM, {"owner": owner, "lease_s": lease_s})).first()
        if row is None:
            return None
        number, after_time, after_id, last_time, last_id, planned, token, attempts = row[_FIELDS:]
        part = Part(number, _position(after_time, after_id), _position(last_time, last_id), planned)
        return ExportLease(_export(row), token, part, attempts)

    async def renew(self, lease: ExportLease, *, lease_s: float) -> bool:
        """Keeps it."""
        return await self._record(lease, _RENEW, lease_s=lease_s)

    async def plan(self, lease: ExportLease, last: Position | None) -> bool:
        """Settles the file under way."""
        time, row_id = (None, None) if last is None else (last.moment, last.row_id)
        return await self._record(lease, _PLAN, time=time, id=row_id)

    async def written(self, lease: ExportLease, *, number: int, rows: int, after: Position) -> bool:
        """Goes on to the next file."""
        return await self._record(lease, _WRITTEN, number=number, rows=rows, time=after.moment, id=after.row_id)

    async def end(self, lease: ExportLease, *, rows: int, failure: str = "") -> bool:
        """It is over."""
        status = Status.FAILED if failure else Status.COMPLETED
        return await self._record(lease, _END, rows=rows, status=status.value, message=failure)

    async def forget(self, *, before: datetime) -> None:
        """Removes old ones."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FORGET, {"before": before})

    async def _record(self, lease: ExportLease, statement: object, **values: object) -> bool:
        asked = {"export_id": lease.export.export_id, "token": lease.token, **values}
        async with transaction(self._engine) as connection:
            return (await connection.execute(statement, asked)).first() is not None  # type: ignore[call-overload]


async def _same(connection: AsyncConnection, export: LogExport) -> LogExport | None:
    if not export.request_id:
        return None
    asked = {"team": export.team, "created_by": export.created_by, "request_id": export.request_id}
    row = (await connection.execute(_SAME, asked)).first()
    return None if row is None else _export(row)


def _in_use(export: LogExport) -> MeshError:
    return MeshError(
        Reason.OUTPUT_UNWRITABLE,
        f"output_uri {export.output_uri!r}: another export is being written there; name another folder",
        metadata={"output_uri": export.output_uri},
    )


def _position(moment: datetime | None, row_id: object) -> Position | None:
    return None if moment is None else Position(moment, str(row_id))


def _values(export: LogExport) -> dict[str, object]:
    return {
        "export_id": export.export_id,
        "model": export.model,
        "start": export.start,
        "end": export.end,
        "format": export.format.value,
        "output_uri": export.output_uri,
        "created_by": export.created_by,
        "team": export.team,
        "request_id": export.request_id,
    }


def _export(row: Sequence[object] | Row[tuple[object, ...]]) -> LogExport:
    export_id, model, start, end, kind, uri, by, team, request_id, status, message, rows = row[:_FIELDS]
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    return LogExport(
        str(export_id),
        str(model),
        start,
        end,
        Format(str(kind)),
        str(uri),
        str(by),
        str(team),
        str(request_id),
        Status(str(status)),
        str(message),
        int(str(rows)),
    )
