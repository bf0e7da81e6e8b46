"""Removing models and versions, never one that is deployed.

Registry and deployer share no transaction, so a version is removed in steps, each of which can be the last:

    ask      what is deployed is refused, and nothing has changed
    hide     nobody sees the version any more, so no deployment of it can begin
    ask      a deployment that began before shows now, and the version is put back
    settle   it is removed, and noted
    forget   later, when every call has ended that may have read it before it was hidden: asked once more, and what is
             deployed after all comes back

A process that dies in between leaves what is hidden and not settled: that is put back. Without the deployer's word
nothing is removed.
"""

import asyncio

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.names import check_version
from services.common.telemetry.logging import get_logger
from services.registry.domain.deletion import (
    SURE_AFTER_S,
    Removal,
    Target,
    being_removed,
    deployed,
    standing_in_the_way,
    unanswered,
)
from services.registry.engines.changing import mismatch
from services.registry.engines.reading import Reading
from services.registry.ports_history import DeploymentBook, Removals

log = get_logger(__name__)

_PUT_BACK_S = 5.0
_EVERY_S = 15.0
_AT_ONCE_MAX = 100


class Removing:
    """The calls that remove. `team` is whose eyes look."""

    def __init__(self, *, removals: Removals, deployments: DeploymentBook, reading: Reading, clock: Clock) -> None:
        self._removals = removals
        self._deployments = deployments
        self._reading = reading
        self._clock = clock

    async def model(self, name: str, *, etag: str, team: str) -> None:
        """Removes a model with all it has. Raises MODEL_NOT_FOUND, ETAG_MISMATCH, RESOURCE_IN_USE, and
        DEPENDENCY_UNAVAILABLE where the deployer is away."""
        current = await self._reading.model(name, team=team)
        target = Target(name, etag=etag)
        if etag and etag != current.etag:
            raise mismatch(target.shown)
        await self._remove(target)

    async def version(self, model_name: str, version: str, *, etag: str, team: str) -> None:
        """Removes a version, for good. Raises VERSION_NOT_FOUND beyond what `model` raises."""
        current = await self._reading.version(model_name, check_version(version), team=team)
        target = Target(model_name, current.version, etag)
        if etag and etag != current.etag:
            raise mismatch(target.shown)
        await self._remove(target)

    async def run(self) -> None:
        """Ends removals that can be ended, for as long as the process lives."""
        while True:
            try:
                await self.end_old()
            except MeshError as error:
                log.warning("removals cannot be ended now", problem=error.message)
            await self._clock.sleep(_EVERY_S)

    async def end_old(self, *, older_than_s: float = SURE_AFTER_S) -> None:
        """Forgets what is settled and not deployed; puts the rest back."""
        for removal in await self._removals.open(older_than_s=older_than_s, limit=_AT_ONCE_MAX):
            await self._end(removal)

    async def _end(self, removal: Removal) -> None:
        if removal.settled and not await self._in_use(removal.target):
            await self._removals.forget(removal.removal)
            return
        log.warning("a removal was put back", what=removal.target.shown, settled=removal.settled)
        await self._removals.put_back(removal.removal)

    async def _remove(self, target: Target) -> None:
        await self._check_unused(target)
        removal = await self._removals.hide(target)
        try:
            await self._check_unused(target)
            settled = await self._removals.settle(removal)
        except BaseException:
            await self._put_back(removal)
            raise
        if not settled:
            raise being_removed(target.model_name)
        log.info("removed", what=target.shown)

    async def _put_back(self, removal: str) -> None:
        # Where this fails, too, `end_old` does it.
        try:
            async with asyncio.timeout(_PUT_BACK_S):
                await self._removals.put_back(removal)
        except (MeshError, TimeoutError) as error:
            log.warning("what was hidden is put back later", problem=str(error))

    async def _check_unused(self, target: Target) -> None:
        try:
            uses = await self._deployments.uses(target.model_name)
        except MeshError as error:
            raise unanswered(target, error) from error
        if found := standing_in_the_way(target, uses):
            raise deployed(target, found)

    async def _in_use(self, target: Target) -> bool:
        return bool(standing_in_the_way(target, await self._deployments.uses(target.model_name)))
