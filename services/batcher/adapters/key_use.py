"""Tells the registry, once a minute, which keys were used and when last.

The hot path leaves one number with each caller (`faces/caller.py`); everything else happens here. While the registry is
away what was used is kept, one entry a key, and told later.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from services.common.access.key_use import KEYS_MAX, PERIOD_S, Report
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_LAST_WORDS_S = 0.5
"""How long a stop waits for the registry."""


class KeyUses:
    """What the registry was not told yet, at most `KEYS_MAX` keys: beyond that those that were used least lately go."""

    def __init__(self, report: Report, *, take: Callable[[], Mapping[str, float]], clock: Clock) -> None:
        """`take` hands out, once, the keys that were used, with the moment on the monotonic clock."""
        self._report = report
        self._take = take
        self._clock = clock
        self._untold: dict[str, datetime] = {}

    @property
    def held(self) -> int:
        """Keys whose use is to be told."""
        return len(self._untold)

    async def run(self) -> None:
        """Reports every minute; a task of the lifecycle."""
        while True:
            await self._clock.sleep(PERIOD_S)
            await self.flush()

    async def stop(self) -> None:
        """Reports what is left, where the registry takes it soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self.flush()

    async def flush(self) -> None:
        """Reports what there is. What cannot be told is kept for the next time."""
        self._gather()
        told = dict(self._untold)
        if not told:
            return
        try:
            await self._report(told)
        except MeshError as error:
            log.info("the last use of keys could not be reported; it is kept", keys=len(told), error=error.message)
            return
        self._untold = {key_id: moment for key_id, moment in self._untold.items() if moment > told[key_id]}

    def _gather(self) -> None:
        now, now_s = self._clock.now(), self._clock.monotonic()
        for key_id, used_s in self._take().items():
            self._untold[key_id] = now - timedelta(seconds=now_s - used_s)
        if len(self._untold) > KEYS_MAX:
            newest = sorted(self._untold.items(), key=lambda use: use[1])[-KEYS_MAX:]
            self._untold = dict(newest)
