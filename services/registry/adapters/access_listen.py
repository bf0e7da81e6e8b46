"""Word of what was committed, from PostgreSQL: LISTEN on a connection of its own that comes back."""

from collections.abc import Callable
from typing import cast

import psycopg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_CHANNEL = "registry_changes"
_AGAIN_MIN_S = 0.1
_AGAIN_MAX_S = 5.0
_PROBE_S = 10.0
"""Without word for so long it asks whether the connection still lives."""


class AccessWord:
    """Calls `tell` when a change was committed, and when it cannot know whether one was.

    `engine` gives connections with one schema's settings; one of its connections is held.
    """

    def __init__(self, engine: AsyncEngine, *, tell: Callable[[], None], clock: Clock) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._tell = tell
        self._clock = clock

    async def run(self) -> None:
        """Listens for as long as the process lives."""
        delay_s = _AGAIN_MIN_S
        while True:
            began_s = self._clock.monotonic()
            try:
                await self._listen()
            except (SQLAlchemyError, psycopg.Error, OSError) as error:
                problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
                log.warning("no word of changes from the database", problem=problem, again_in_s=delay_s)
            lived = self._clock.monotonic() - began_s > _AGAIN_MAX_S
            delay_s = _AGAIN_MIN_S if lived else min(delay_s * 2, _AGAIN_MAX_S)
            await self._clock.sleep(delay_s)

    async def _listen(self) -> None:
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = cast("psycopg.AsyncConnection[tuple[object, ...]]", raw.driver_connection)
            try:
                await driver.execute(f"LISTEN {_CHANNEL}")
                while True:
                    # Whatever was committed before is told once; all that comes later waits in the connection.
                    self._tell()
                    async for _ in driver.notifies(timeout=_PROBE_S):
                        self._tell()
                    await driver.execute("SELECT 1")
            finally:
                # It listens, so it is of no use to anyone else.
                await connection.invalidate()
