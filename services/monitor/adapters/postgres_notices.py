"""Letters to notification channels that wait, in PostgreSQL: an outbox, written with the alerts that they tell of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.alert_rows import ALERTS, COLUMNS, alert_of, lock_alerts, put_alerts, settle
from services.monitor.adapters.database import transaction
from services.monitor.ports_alerts import Notice, Told

# A channel hears of an alert in the order in which things happened: an incident that is closed before it was opened
# would stay open.
_TAKE = text("""
    UPDATE alert_notices SET tries = tries + 1, attempted_at = clock_timestamp(),
        due_at = clock_timestamp() + make_interval(secs => :hold_s)
    WHERE notice_id IN (
        SELECT notice_id FROM alert_notices AS waiting
        WHERE outcome IS NULL AND due_at <= clock_timestamp() AND NOT EXISTS (
            SELECT FROM alert_notices AS earlier
            WHERE earlier.outcome IS NULL AND earlier.channel = waiting.channel AND earlier.means = waiting.means
              AND earlier.number < waiting.number AND earlier.alert_ids && waiting.alert_ids)
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING notice_id::text AS id, means, channel, stage, alerts, created_at, tries, number
""")
_POSTPONE = text("""
    UPDATE alert_notices SET due_at = clock_timestamp() + make_interval(secs => :after_s), problem = :why
    WHERE notice_id = CAST(:id AS uuid) AND outcome IS NULL AND tries = :tries
""")
_END = text("""
    UPDATE alert_notices SET outcome = :outcome, problem = :why, ended_at = clock_timestamp()
    WHERE notice_id = CAST(:id AS uuid) AND outcome IS NULL
""")
_WAITING = text("SELECT count(*) FROM alert_notices WHERE outcome IS NULL")
_TOLD = text("""
    SELECT DISTINCT ON (alert_id, channel) alert_id, channel, outcome, tries, problem, attempted_at
    FROM alert_notices, unnest(alert_ids) AS alert_id
    WHERE alert_ids && CAST(:ids AS text[]) AND alert_id = ANY(CAST(:ids AS text[])) AND channel <> ''
    ORDER BY alert_id, channel, number DESC
""")
_GET = text(f"SELECT {COLUMNS} FROM alerts WHERE alert_id = :alert_id")  # noqa: S608 - names out of this file
_FORGET = text("DELETE FROM alert_notices WHERE ended_at < :before")
_STATUS = {None: "pending", "sent": "sent", "given_up": "failed"}


class PostgresNotices:
    """An `Outbox` of notices and a `TellingStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take(self, *, limit: int, hold_s: float) -> Sequence[Notice]:
        """Letters that are due. Each try is counted before it is made, so that a death in the middle counts too."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_TAKE, {"limit": limit, "hold_s": hold_s})).all()
        return [
            Notice(
                row.id, row.means, row.channel, row.stage, ALERTS.validate_python(row.alerts), row.created_at, row.tries
            )
            for row in sorted(rows, key=lambda row: row.number)
        ]

    async def postpone(self, letter: Notice, *, after_s: float, why: str) -> None:
        """Later."""
        values = {"id": letter.notice_id, "tries": letter.tries, "after_s": after_s, "why": why}
        async with transaction(self._engine) as connection:
            await connection.execute(_POSTPONE, values)

    async def end(self, letter: Notice, outcome: str, *, why: str = "") -> None:
        """For good."""
        async with transaction(self._engine) as connection:
            await connection.execute(_END, {"id": letter.notice_id, "outcome": outcome, "why": why})

    async def waiting(self) -> int:
        """How many have not ended."""
        async with transaction(self._engine) as connection:
            return int((await connection.execute(_WAITING)).scalar_one())

    async def told(self, alert_ids: Collection[str]) -> Mapping[str, Sequence[Told]]:
        """How far each channel was told, by the newest letter to it."""
        found: dict[str, list[Told]] = {}
        async with transaction(self._engine) as connection:
            for row in await connection.execute(_TOLD, {"ids": list(alert_ids)}):
                told = Told(row.channel, _STATUS[row.outcome], row.tries, row.problem, row.attempted_at)
                found.setdefault(row.alert_id, []).append(told)
        return found

    async def done(self, alert_id: str, words: str, *, now: datetime) -> None:
        """Notes what became of a canary, once, and tells it."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            row = (await connection.execute(_GET, {"alert_id": alert_id})).first()
            if row is None or alert_of(row).done:
                return
            await put_alerts(connection, [replace(alert_of(row), done=words)])
            await settle(connection, now)

    async def forget(self, *, before: datetime) -> None:
        """Removes letters that ended before."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FORGET, {"before": before})
