"""The audit log: read as pages, and followed as changes are committed.

A follower reads the log by pages from where it stands, so a slow one holds no queue here and misses nothing: what it
has not read is in the table. Word of new changes only wakes it; where that word is lost it looks by itself.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.page import check_page_size
from services.common.signals import Signal, wait_at_most
from services.registry.domain.changes import Change, Wanted, check_wanted, parse_cursor, unknown_cursor
from services.registry.domain.pages import number_in, position_of
from services.registry.engines.pages import Page, W, collect
from services.registry.ports_history import ChangeLog

HEARTBEAT_S = 15.0
_LOOK_EVERY_S = 2.0
"""Between looks without word of a change."""
_READ_MAX = 20
"""Changes that are in memory for one follower."""


@dataclass(frozen=True, slots=True)
class Step:
    """A change, or None for word that the stream lives; and where to go on after a break."""

    change: Change | None
    cursor: str


class Following:
    """The calls that read the log. `team` is the caller's; empty sees all."""

    def __init__(self, *, log: ChangeLog, told: Signal, clock: Clock, followers_max: int) -> None:
        self._log = log
        self._told = told
        self._clock = clock
        self._followers_max = followers_max
        self._followers = 0
        self._closed = False

    async def page(
        self, wanted: Wanted, show: Callable[[Change], W], *, page_size: int, page_token: str, team: str
    ) -> Page[W]:
        """A page of the log, newest first. Raises INVALID_FIELD, INVALID_PAGE_TOKEN."""
        check_wanted(wanted, types_field="resource_type")
        size, query = check_page_size(page_size), f"changes\0{wanted}"

        async def fetch(before: tuple[str, ...], limit: int) -> Sequence[Change]:
            return await self._log.page(wanted, before=number_in(before), limit=limit, team=team)

        def position(change: Change) -> tuple[str, ...]:
            return (str(change.number),)

        before = position_of(page_token, query=query, parts=1)
        number_in(before)
        return await collect(fetch, after=before, size=size, position_of=position, show=show, query=query)

    async def follow(self, wanted: Wanted, *, cursor: str, team: str) -> AsyncIterator[Step]:
        """First word of where the stream begins, then each change in the order of the commits, and every 15 s without
        one word that the stream lives. Ends when the registry stops.

        Raises INVALID_FIELD for a cursor that the log did not give out, QUOTA_EXCEEDED where too many follow.
        """
        check_wanted(wanted, types_field="resource_types")
        asked = parse_cursor(cursor)
        if self._followers >= self._followers_max:
            raise MeshError(
                Reason.QUOTA_EXCEEDED,
                f"{self._followers} callers follow the changes at this moment, the most at one time; try again later",
                retry_after_s=10.0,
            )
        self._followers += 1
        try:
            last = await self._log.last()
            if asked is not None and asked > last:
                raise unknown_cursor(cursor)
            async for step in self._steps(wanted, last if asked is None else asked, team):
                yield step
        finally:
            self._followers -= 1

    def close(self) -> None:
        """Ends every stream; new ones end at once."""
        self._closed = True
        self._told.fire()

    async def _steps(self, wanted: Wanted, number: int, team: str) -> AsyncIterator[Step]:
        yield Step(None, str(number))
        spoken_s = self._clock.monotonic()
        while not self._closed:
            told = self._told.current
            found, reached = await self._log.behind(wanted, after=number, limit=_READ_MAX, team=team)
            for change in found:
                yield Step(change, str(change.number))
                spoken_s = self._clock.monotonic()
            number = reached
            if found:
                # Before sleeping, whether more came meanwhile.
                continue
            silent_s = self._clock.monotonic() - spoken_s
            if silent_s >= HEARTBEAT_S:
                yield Step(None, str(number))
                spoken_s, silent_s = self._clock.monotonic(), 0.0
            if not self._closed:
                await wait_at_most(told, min(_LOOK_EVERY_S, HEARTBEAT_S - silent_s))
