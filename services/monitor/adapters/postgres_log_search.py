"""Searches inference_logs. Statements have only the conditions that were asked for, so that each finds its index;
moments are conditions of their own beside positions, so that partitions are passed over."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.log_rows import LogRow
from services.monitor.domain.log_search import FoundRow, LogQuery, Position
from services.monitor.ports_log import Losses

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = """request_id, model_id, version_id, deployment_id, input_hash, CAST(output AS text), latency_ms,
    error_message, "timestamp", user_id, metadata, id"""
_LOSSES = text("""
    SELECT coalesce(sum(dropped_count), 0), coalesce(sum(unkept_count), 0) FROM log_drops WHERE "timestamp" >= :since
""")


class PostgresLogReader:
    """A `LogReader`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def newest(self, query: LogQuery, *, before: Position | None, limit: int) -> Sequence[FoundRow]:
        """Rows, newest first."""
        statement, values = newest_statement(query, before=before, limit=limit)
        async with transaction(self._engine) as connection:
            return [_found(row) for row in await connection.execute(statement, values)]

    async def oldest(
        self, query: LogQuery, *, after: Position | None, last: Position | None, limit: int
    ) -> Sequence[FoundRow]:
        """Rows, oldest first."""
        conditions, values = _conditions(query)
        _behind(conditions, values, after)
        if last is not None:
            conditions += ['"timestamp" <= :last_time', '("timestamp", id) <= (:last_time, CAST(:last_id AS uuid))']
            values |= {"last_time": last.moment, "last_id": last.row_id}
        statement = text(
            f"SELECT {_COLUMNS} FROM inference_logs WHERE {' AND '.join(conditions)} "  # noqa: S608 - texts of this file
            'ORDER BY "timestamp", id LIMIT :limit'
        )
        async with transaction(self._engine) as connection:
            return [_found(row) for row in await connection.execute(statement, {**values, "limit": limit})]

    async def place(self, query: LogQuery, *, after: Position | None, number: int) -> Position | None:
        """The row that is so many behind."""
        conditions, values = _conditions(query)
        _behind(conditions, values, after)
        statement = text(
            f'SELECT "timestamp", id FROM inference_logs WHERE {" AND ".join(conditions)} '  # noqa: S608
            'ORDER BY "timestamp", id OFFSET :skipped LIMIT 1'
        )
        async with transaction(self._engine) as connection:
            row = (await connection.execute(statement, {**values, "skipped": number - 1})).first()
        return None if row is None else Position(row[0], str(row[1]))

    async def losses(self, *, since: datetime) -> Losses:
        """What is missing."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_LOSSES, {"since": since})).one()
        return Losses(int(row[0]), int(row[1]))


def newest_statement(query: LogQuery, *, before: Position | None, limit: int) -> tuple[TextClause, dict[str, object]]:
    """The statement of a search and its values."""
    conditions, values = _conditions(query)
    if before is not None:
        conditions += ['"timestamp" <= :before_time', '("timestamp", id) < (:before_time, CAST(:before_id AS uuid))']
        values |= {"before_time": before.moment, "before_id": before.row_id}
    statement = text(
        f"SELECT {_COLUMNS} FROM inference_logs WHERE {' AND '.join(conditions)} "  # noqa: S608 - texts of this file
        'ORDER BY "timestamp" DESC, id DESC LIMIT :limit'
    )
    return statement, {**values, "limit": limit}


def _conditions(query: LogQuery) -> tuple[list[str], dict[str, object]]:
    conditions = ["model_id = :model", '"timestamp" >= :start', '"timestamp" < :end']
    values: dict[str, object] = {"model": query.model, "start": query.start, "end": query.end}
    for name, column, value in (
        ("version", "version_id", query.version),
        ("request_id", "request_id", query.request_id),
        ("user_id", "user_id", query.user_id),
    ):
        if value:
            conditions.append(f"{column} = :{name}")
            values[name] = value
    if query.errors_only:
        conditions.append("error_message IS NOT NULL")
    if query.team is not None:
        conditions.append("metadata->>'team' = :team")
        values["team"] = query.team
    return conditions, values


def _behind(conditions: list[str], values: dict[str, object], after: Position | None) -> None:
    if after is not None:
        conditions += ['"timestamp" >= :after_time', '("timestamp", id) > (:after_time, CAST(:after_id AS uuid))']
        values |= {"after_time": after.moment, "after_id": after.row_id}


def _found(row: Sequence[object]) -> FoundRow:
    request_id, model, version, deployment, digest, output, latency, error, moment, user, metadata, row_id = row
    assert isinstance(moment, datetime)
    assert isinstance(metadata, dict)
    found = LogRow(
        request_id=str(request_id),
        model=str(model),
        version=str(version),
        deployment=str(deployment),
        input_hash=str(digest or ""),
        output=str(output or ""),
        latency_ms=float(str(latency)),
        error_message=str(error or ""),
        time_us=(moment - _EPOCH) // timedelta(microseconds=1),
        user_id=str(user or ""),
        metadata={str(key): str(value) for key, value in metadata.items()},
    )
    return FoundRow(Position(moment, str(row_id)), found)
