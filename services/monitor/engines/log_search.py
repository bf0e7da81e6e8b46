"""Answers what is in the prediction log, and what is missing in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, invalid
from services.monitor.domain.log_search import FoundRow, Position, log_query, log_window
from services.monitor.ports_log import LogReader, Losses

HEALTH_MINUTES_DEFAULT = 60
_HEALTH_MINUTES_MAX = 1440


@dataclass(frozen=True, slots=True)
class LogHealth:
    """How the log does."""

    stored: bool
    """Whether the database takes it now."""
    losses: Losses
    minutes: int


class LogSearch:
    """Reads the log."""

    def __init__(self, *, reader: LogReader, stored: Callable[[], bool], clock: Clock, retention_days: int) -> None:
        """`stored`: whether the last attempt to store the log worked."""
        self._reader = reader
        self._stored = stored
        self._clock = clock
        self._retention_days = retention_days

    async def find(
        self,
        model: str,
        *,
        version: str,
        request_id: str,
        user_id: str,
        errors_only: bool,
        start: datetime | None,
        end: datetime | None,
        before: Position | None,
        limit: int,
        sight: Sight = EVERYTHING,
    ) -> Sequence[FoundRow]:
        """Rows, newest first, from behind that one. Of a model that is another team's, a caller finds what the own team
        asked for. Raises INVALID_FIELD."""
        window = log_window(start, end, now=self._clock.now(), days_max=self._retention_days)
        query = log_query(
            model,
            window,
            version=version,
            request_id=request_id,
            user_id=user_id,
            errors_only=errors_only,
            team=None if sight.owns(model) else sight.team,
        )
        return await self._reader.newest(query, before=before, limit=limit)

    async def health(self, minutes: int) -> LogHealth:
        """What is missing in the last minutes; 0 where the database does not say. Raises INVALID_FIELD."""
        if not 0 <= minutes <= _HEALTH_MINUTES_MAX:
            raise invalid("window_minutes", minutes, f"1 to {_HEALTH_MINUTES_MAX}; 0 means {HEALTH_MINUTES_DEFAULT}")
        minutes = minutes or HEALTH_MINUTES_DEFAULT
        try:
            losses = await self._reader.losses(since=self._clock.now() - timedelta(minutes=minutes))
        except MeshError:
            return LogHealth(stored=False, losses=Losses(0, 0), minutes=minutes)
        return LogHealth(stored=self._stored(), losses=losses, minutes=minutes)
