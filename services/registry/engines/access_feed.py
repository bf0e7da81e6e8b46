"""Tells any number of followers what tells callers apart, from one reader of the database.

The reader looks whenever it is told that something was committed, and now and then by itself; every look begins where
the one before ended, so word that is lost or doubled costs nothing but time. Followers wait for a signal and then ask
the history what is new to them: whoever is slow finds several changes made one.
"""

import asyncio
from collections.abc import AsyncIterator

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.registry.domain.access_history import AccessHistory, AccessUpdate
from services.registry.ports_teams import AccessSource

log = get_logger(__name__)

_FIRST_LOOK_S = 10.0
"""How long a follower waits for the first look at the database."""
_AGAIN_S = 0.5
"""Between looks at a database that does not answer."""


class AccessFeed:
    """One reader, many followers."""

    def __init__(self, source: AccessSource, *, clock: Clock, whole_period_s: float) -> None:
        self._source = source
        self._clock = clock
        self._whole_period_s = whole_period_s
        self._history = AccessHistory()
        self._told = asyncio.Event()
        self._news = Signal()
        self._closed = False
        self._whole_due_s = 0.0
        self._reachable = True
        self._revoked: frozenset[str] = frozenset()

    @property
    def known(self) -> bool:
        """Whether anything was read yet."""
        return self._history.known

    def revoked(self, key_id: str) -> bool:
        """Whether a key was revoked, by the last look."""
        return key_id in self._revoked

    async def current_key_set(self) -> str:
        """The key set that was read last. Raises DEPENDENCY_UNAVAILABLE before the first look."""
        await self._until_known()
        return self._history.head.key_set

    def tell(self) -> None:
        """Something may have been committed."""
        self._told.set()

    async def run(self) -> None:
        """Looks for as long as the process lives."""
        while True:
            self._told.clear()
            if await self.look():
                await wait_at_most(self._told, max(0.0, self._whole_due_s - self._clock.monotonic()))
            else:
                await self._clock.sleep(_AGAIN_S)

    async def look(self) -> bool:
        """Looks once. Whether the database answered."""
        try:
            await self._look()
        except MeshError as error:
            if self._reachable:
                log.warning("who may do what is not kept up", problem=error.message)
            self._reachable = False
            return False
        if not self._reachable:
            log.info("who may do what is kept up again")
        self._reachable = True
        return True

    async def follow(self) -> AsyncIterator[AccessUpdate]:
        """All there is, then what is new, each time in one; ends when the feed is closed.

        Raises DEPENDENCY_UNAVAILABLE where the database has not been read yet.
        """
        mark: int | None = None
        await self._until_known()
        while not self._closed:
            news = self._news.current
            if mark is None or self._history.mark > mark:
                update = self._history.since(mark)
                mark = update.mark
                yield update
                continue
            await news.wait()

    def close(self) -> None:
        """Ends all followers."""
        self._closed = True
        self._news.fire()

    async def _look(self) -> None:
        now, began_s = self._clock.now(), self._clock.monotonic()
        if not self._history.known or began_s >= self._whole_due_s:
            # Also what nobody noted and what time alone changes: keys that ended, signing keys that went out of use.
            found = await self._source.whole(now=now)
            self._whole_due_s = began_s + self._whole_period_s
        else:
            found = await self._source.since(self._history.revision, now=now)
        if found.head is not None:
            self._revoked = frozenset(found.head.revoked)
        if self._history.apply(found):
            self._news.fire()

    async def _until_known(self) -> None:
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                while not (self._history.known or self._closed):
                    await self._news.current.wait()
        except TimeoutError:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "the registry has not read yet who may do what; see whether its PostgreSQL runs and try again",
                retry_after_s=2.0,
            ) from None
