"""Follows the registry's aliases: all of them once, then those of each model as they change.

The stream is opened before everything is read, so nothing falls between the two; what it tells is which model to read
again, never what to believe, so a change that is told twice or late moves nothing back. Where the stream breaks it is
opened anew, and everything is read again. Where it cannot be opened, everything is read again and again, the more
rarely the longer that takes. The last aliases hold while the registry is away.
"""

import asyncio
from collections.abc import Mapping

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.router.engines.publisher import Publisher
from services.router.ports import AliasSource

log = get_logger(__name__)

_PAUSE_RATIO = 20
"""How many times as long as a reading of everything the pause after it is at least."""
_AGAIN_MIN_S = 0.1
_SILENT_MAX_S = 60.0
"""A stream that has said nothing for so long, not even that it lives, has broken."""


class AliasFollower:
    """Hands all aliases to the publisher, which tells batchers those whose version is ready.

    A router that starts while the registry is away begins with those of the table that was saved last.
    """

    def __init__(self, *, source: AliasSource, publisher: Publisher, clock: Clock, period_s: float) -> None:
        self._source = source
        self._publisher = publisher
        self._clock = clock
        self._period_s = period_s
        self._known: dict[str, Mapping[str, str]] = {}
        self._follows = False
        self._away = False
        self._next_reading_s = 0.0

    async def run(self) -> None:
        """Never ends by itself."""
        delay_s = _AGAIN_MIN_S
        while True:
            self._follows = False
            try:
                await self._follow()
                problem = "the stream ended"
            except (MeshError, TimeoutError) as error:
                problem = str(error) or "the stream is silent"
            if self._follows:
                delay_s = _AGAIN_MIN_S
                log.info("aliases are followed anew", because=problem)
            else:
                await self._poll()
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, self._period_s)

    async def _follow(self) -> None:
        stream = aiter(self._source.changes())
        while True:
            async with asyncio.timeout(_SILENT_MAX_S):
                model = await anext(stream, None)
            if model is None:
                return
            if not self._follows:
                await self._read_all()
                self._follows = True
            if model:
                await self._read(model)

    async def _poll(self) -> None:
        """Reads everything, where the pause after the last time is over."""
        if self._clock.monotonic() < self._next_reading_s:
            return
        try:
            await self._read_all()
        except MeshError as error:
            if not self._away:
                log.warning("the registry's aliases cannot be read; the last ones hold", error=error.message)
            self._away = True

    async def _read_all(self) -> None:
        began_s = self._clock.monotonic()
        self._known = dict(await self._source.every())
        now_s = self._clock.monotonic()
        self._next_reading_s = now_s + max(self._period_s, (now_s - began_s) * _PAUSE_RATIO)
        self._away = False
        self._publisher.aliases_changed(self._known)

    async def _read(self, model: str) -> None:
        aliases = await self._source.of(model)
        known = {name: of_one for name, of_one in self._known.items() if name != model}
        self._known = {**known, model: aliases} if aliases else known
        self._publisher.aliases_changed(self._known)
