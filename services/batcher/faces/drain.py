"""The end of a batcher: not ready first, then every request in flight is answered, then the process goes.

Envoy ends at once on SIGTERM and cuts off what is in flight, so it gets the signal last: see `ending`.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from services.batcher.faces.core import Core
from services.common.clock import Clock
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

QUIET_S = 0.25
"""How long nothing must have been in flight and nothing have come: a request may be on its way from Envoy to us."""
_POLL_S = 0.02
_RESERVE_S = 1.5
"""Kept back from the grace period for stopping the parts."""


class Drain:
    """Runs once, from the first signal on."""

    def __init__(
        self,
        *,
        core: Core,
        clock: Clock,
        grace_s: float,
        leave: Callable[[], Awaitable[None]],
        drop: Callable[[], None] = lambda: None,
    ) -> None:
        """`leave` tells callers to go elsewhere, `drop` gives up what nobody waits for."""
        self._core = core
        self._clock = clock
        self.limit_s = max(QUIET_S, grace_s - _RESERVE_S)
        self._leave = leave
        self._drop = drop
        self._begun = asyncio.Event()
        self.finished = threading.Event()
        """Set when the process may end."""

    @property
    def draining(self) -> bool:
        """Whether the end has begun."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Begins the end. Called on the loop."""
        self._begun.set()

    async def run(self) -> None:
        """Waits for the beginning and drains; a task of the lifecycle."""
        await self._begun.wait()
        began_s = self._clock.monotonic()
        log.info("draining", in_flight=len(self._core.in_flight), limit_s=self.limit_s)
        self._drop()
        for stream in list(self._core.streams):
            stream.close_soon()
        try:
            await self._leave()
        except Exception as error:
            log.warning("callers could not be told to leave", error=str(error))
        quiet_since_s = self._clock.monotonic()
        begun = self._core.begun
        while (now_s := self._clock.monotonic()) - began_s < self.limit_s:
            if self._core.in_flight or self._core.streams or self._core.begun != begun:
                begun = self._core.begun
                quiet_since_s = now_s
            elif now_s - quiet_since_s >= QUIET_S:
                break
            await self._clock.sleep(_POLL_S)
        log.info("drained", cut_off=len(self._core.in_flight))
        self.finished.set()
