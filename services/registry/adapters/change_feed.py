"""Word of new changes from PostgreSQL, as they are committed: LISTEN on a connection of its own."""

from collections.abc import Callable

import psycopg

from services.common.clock import Clock
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

CHANNEL = "registry_changes"
_AGAIN_MIN_S = 0.1
_AGAIN_MAX_S = 5.0
_PROBE_EVERY_S = 10.0
"""Without word for so long it asks whether the connection still lives."""


class ChangeFeed:
    """Calls `tell` when a change was committed, and when it cannot know whether one was.

    Nothing depends on it but speed: followers look by themselves, too.
    """

    def __init__(self, url: str, *, tell: Callable[[], None], clock: Clock) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://")
        self._tell = tell
        self._clock = clock

    async def run(self) -> None:
        """Listens for as long as the process lives, and dials again where the connection breaks."""
        delay_s = _AGAIN_MIN_S
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, application_name="infermesh-registry-feed"
                ) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    delay_s = _AGAIN_MIN_S
                    await self._listen(connection)
            except (psycopg.Error, OSError) as error:
                log.warning("no word of changes from the database", error=str(error).strip(), again_in_s=delay_s)
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, _AGAIN_MAX_S)

    async def _listen(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            self._tell()
            async for _ in connection.notifies(timeout=_PROBE_EVERY_S):
                self._tell()
            await connection.execute("SELECT 1")
