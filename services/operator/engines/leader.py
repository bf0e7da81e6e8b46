"""Works only while the Lease is held, and lets go of it when it stops."""

import asyncio
from collections.abc import Awaitable, Callable

from services.common.body import Body
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.operator.domain.lease import LeaseTerms, Watched, given_back, may_take, taken, watch
from services.operator.ports import LeaseStore

log = get_logger(__name__)

_GIVING_BACK_S = 2.0


class Leader:
    """One candidate. `run` is a background task."""

    def __init__(
        self, work: Callable[[], Awaitable[None]], *, store: LeaseStore, me: str, clock: Clock, terms: LeaseTerms
    ) -> None:
        self._work = work
        self._store = store
        self._me = me
        self._clock = clock
        self._terms = terms
        self._held: Body | None = None
        self.leads = False

    async def run(self) -> None:
        """Waits for the lease and works while it holds it, again and again. Returns when the work does."""
        while True:
            await self._acquire()
            log.info("leads", holder=self._me)
            if await self._lead():
                return

    async def _acquire(self) -> None:
        watched: Watched | None = None
        while True:
            try:
                found = await self._store.read()
                now_s = self._clock.monotonic()
                if found is not None:
                    watched = watch(watched, found, now_s=now_s)
                if watched is None or found is None or may_take(watched, self._me, now_s=now_s):
                    spec = taken(found, self._me, self._terms, now=self._clock.now())
                    self._held = await self._store.write(spec, over=found)
                    if self._held is not None:
                        return
            except MeshError as error:
                log.info("the lease cannot be read", error=error.message)
            await self._clock.sleep(self._terms.try_s)

    async def _lead(self) -> bool:
        """Whether the work ended by itself."""
        work = asyncio.ensure_future(self._work())
        renewing = asyncio.create_task(self._renew(), name="operator: lease")
        self.leads = True
        try:
            await asyncio.wait((work, renewing), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
                return True
            log.warning("no longer leads; another operator goes on", holder=self._me)
            return False
        finally:
            self.leads = False
            for task in (work, renewing):
                task.cancel()
            await asyncio.gather(work, renewing, return_exceptions=True)
            await self._give_back()

    async def _renew(self) -> None:
        """Returns once the lease is lost, or was not renewed for too long."""
        renewed_s = self._clock.monotonic()
        while self._clock.monotonic() - renewed_s < self._terms.gives_up_s:
            await self._clock.sleep(self._terms.renew_s)
            asked_s = self._clock.monotonic()
            left_s = self._terms.gives_up_s - (asked_s - renewed_s)
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    spec = taken(self._held, self._me, self._terms, now=self._clock.now())
                    held = await self._store.write(spec, over=self._held)
            except (MeshError, TimeoutError) as error:
                log.info("the lease could not be renewed", error=str(error))
                continue
            if held is None:
                self._held = None
                return
            self._held, renewed_s = held, asked_s

    async def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            async with asyncio.timeout(_GIVING_BACK_S):
                await self._store.write(given_back(held), over=held)
        except (MeshError, TimeoutError) as error:
            log.info("the lease could not be given back; it ends by itself", error=str(error))
