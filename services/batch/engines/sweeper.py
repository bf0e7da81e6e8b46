"""Forgets jobs some time after their end, with their failed rows and parts. Their outputs stay."""

from functools import partial

from services.batch.engines.runner import clear_away
from services.batch.ports import Leftover, StoreAwayError
from services.batch.ports_attic import Attic
from services.batch.ports_places import Workspace
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

PERIOD_S = 300.0
_JOBS_AT_ONCE = 50
_LETTERS_AT_ONCE = 1_000


class _FilesStayError(Exception):
    """Files cannot be removed. No OSError, which within a transaction would say that the store is away."""


class Sweeper:
    """Looks every five minutes. Several may share a store."""

    def __init__(self, *, attic: Attic, workspace: Workspace, clock: Clock, age_s: float) -> None:
        self._attic = attic
        self._workspace = workspace
        self._clock = clock
        self._age_s = age_s

    async def run(self) -> None:
        """Forgets until it is cancelled."""
        while True:
            try:
                await self.sweep()
            except StoreAwayError as error:
                log.info("the store is away; what is old stays for now", why=error.message)
            await self._clock.sleep(PERIOD_S)

    async def sweep(self) -> None:
        """Forgets all that is old enough. Raises StoreAwayError."""
        while old := await self._attic.ended_before(age_s=self._age_s, limit=_JOBS_AT_ONCE):
            forgotten = 0
            for leftover in old:
                discard = partial(_discard, self._workspace, leftover)
                try:
                    forgotten += await self._attic.forget(leftover.job_id, age_s=self._age_s, discard=discard)
                except _FilesStayError as error:
                    log.warning("files of an old job cannot be removed", job_id=leftover.job_id, why=str(error))
            log.info("old jobs are forgotten", count=forgotten, age_days=self._age_s / 86_400)
            if forgotten == 0:
                # What is left stays for a reason that may pass; it is looked at again with the next sweep.
                break
        while await self._attic.forget_letters(age_s=self._age_s, limit=_LETTERS_AT_ONCE) == _LETTERS_AT_ONCE:
            pass


def _discard(workspace: Workspace, leftover: Leftover) -> None:
    try:
        clear_away(workspace, leftover)
    except OSError as error:
        raise _FilesStayError(error.strerror or str(error)) from error
    except MeshError as error:
        # A bucket that is away or denies it.
        raise _FilesStayError(error.message) from error
