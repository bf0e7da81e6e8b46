"""Follows the registry's word on who may call and whose models are: gateways and batchers go by it within a moment.

Nobody is told anything before something is known. A router that starts waits a moment for the registry, since what was
kept may be older than what gateways go by already; where the registry is dead, what was kept holds. Gateways are told
first and the database afterwards: a revocation must not wait for it.
"""

import asyncio
from collections.abc import Callable

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.redial import follow
from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.router.domain.access import Access, AccessUpdate, Owners, is_key_set, updated
from services.router.ports import AccessSource, AccessStore, Admission

log = get_logger(__name__)

_KEEP_AGAIN_S = 1.0


class AccessKeeper:
    """Keeps gateways and the publisher up to date. `restore` before its three background tasks."""

    def __init__(
        self,
        *,
        source: AccessSource,
        store: AccessStore,
        gateways: Admission,
        on_owners: Callable[[Owners], None],
        on_revoked: Callable[[tuple[str, ...]], None],
        clock: Clock,
        first_word_s: float = 2.0,
    ) -> None:
        """`on_owners` takes all owners whenever one changes, `on_revoked` all revoked keys once gateways are told.
        `first_word_s`: how long after a start the registry is waited for before what was kept holds."""
        self._source = source
        self._store = store
        self._gateways = gateways
        self._on_owners = on_owners
        self._on_revoked = on_revoked
        self._clock = clock
        self._first_word_s = first_word_s
        self._known: Access | None = None
        self._heard = False
        self._kept: Access | None = None
        self._changed = Signal()
        self._telling = asyncio.Lock()

    @property
    def known(self) -> bool:
        """Whether it is known who may call: from the registry, or from before this process started."""
        return self._known is not None

    async def restore(self) -> None:
        """Takes what was kept. Raises DEPENDENCY_UNAVAILABLE."""
        self._known = self._kept = await self._store.load()
        if self._known is None:
            log.info("nothing was kept of who may call; gateways let nobody in until the registry is heard")
            return
        self._on_owners(self._known.owners)
        log.info("restored who may call", revision=self._known.callers.revision)

    async def follow(self) -> None:
        """Takes the registry's word. Never ends by itself."""
        await follow(self._source.watch, self._take, clock=self._clock, who="registry", what="callers")

    async def go_by_what_was_kept(self) -> None:
        """Lets what was kept hold where the registry says nothing after a start."""
        if self._known is None or await self._changed.until(lambda: self._heard, timeout_s=self._first_word_s):
            return
        log.warning("the registry says nothing; callers are told apart by what was kept")
        await self._tell(self._known)

    async def keep(self) -> None:
        """Keeps in the database what is known. Never ends by itself."""
        while True:
            changed = self._changed.current
            known, kept = self._known, self._kept
            if known is None or known == kept:
                await changed.wait()
                continue
            try:
                if kept is None or known.callers != kept.callers:
                    await self._store.keep_callers(known.callers)
                if kept is None or known.owners != kept.owners:
                    await self._store.keep_owners(known.owners)
            except MeshError as error:
                log.warning("who may call could not be kept; it is tried again", error=error.message)
                await self._clock.sleep(_KEEP_AGAIN_S)
                continue
            self._kept = known

    async def _tell(self, known: Access) -> None:
        async with self._telling:
            # Whoever had to wait for the other tells what is the newest by then.
            newest = (self._known or known).callers
            # Gateways first: what they let in, batchers may turn away, and not the other way round.
            await self._gateways.admit(newest)
            self._on_revoked(newest.revoked)

    async def _take(self, update: AccessUpdate) -> None:
        if not is_key_set(update.callers.key_set):
            log.error("the registry states no key set that keys could be verified by", revision=update.callers.revision)
            if self._known is None:
                return
        before = self._known
        known = self._known = updated(before, update)
        first, self._heard = not self._heard, True
        if first or before is None or known.callers != before.callers:
            await self._tell(known)
        if before is None or known.owners != before.owners:
            self._on_owners(known.owners)
        self._changed.fire()
        log.info("who may call has changed", revision=known.callers.revision, revoked=len(known.callers.revoked))
