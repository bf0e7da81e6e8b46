"""Makes a model repository with one version, for a replica that has it to itself: a pod of a cluster.

It is the bringing up of a deployment without the servers: the same package, the same check of its digest, the same
environment. What is fetched stays in the replica's folder, so that a second try goes on where the first one broke off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.common.clock import Clock
from services.common.errors import Code, MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.domain.deployment import (
    Condition,
    Deployment,
    NewDeployment,
    Progress,
    Recipe,
    Wish,
)
from services.deployer.domain.package import Package
from services.deployer.engines.bringup import Bringer
from services.deployer.ports import VersionSource

log = get_logger(__name__)

_TRANSIENT = {Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED}
_AGAIN_FIRST_S, _AGAIN_MAX_S = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which version, and how it is run."""

    model_name: str
    version: str
    artifact_digest: str
    """What the replica was made for; another one is refused. Empty: whatever the registry says."""
    wish: Wish
    """How it is run, and on how many GPUs."""


class Told:
    """A `Recorder` that writes what it is told into the log."""

    def __init__(self) -> None:
        self._told: Sequence[Condition] = ()

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Logs each condition that is new."""
        for condition in progress.conditions:
            if condition not in self._told:
                log.info(
                    "step",
                    step=condition.type,
                    holds=condition.status,
                    reason=condition.reason,
                    message=condition.message,
                    model=deployment.server_model_name,
                )
        self._told = progress.conditions


class Fetcher:
    """One version into one repository."""

    def __init__(self, *, versions: VersionSource, bringer: Bringer, clock: Clock, patience_s: float) -> None:
        self._versions = versions
        self._bringer = bringer
        self._clock = clock
        self._patience_s = patience_s

    async def fetch(self, wanted: Wanted) -> Package:
        """What the repository holds afterwards, and nothing else.

        Raises what is wrong with the version or the key, ARTIFACT_CORRUPT where it is not what the replica was made
        for, and DEPENDENCY_UNAVAILABLE where the registry stays away for `patience_s`. Many replicas that start at once
        may be more than their team's rate limit; they wait for their turn.
        """
        until_s, delay_s = self._clock.monotonic() + self._patience_s, _AGAIN_FIRST_S
        while True:
            try:
                return await self._fetch(wanted)
            except MeshError as error:
                if error.code not in _TRANSIENT or self._clock.monotonic() + delay_s > until_s:
                    raise
                log.warning("will try again", reason=error.reason.value, message=error.message, delay_s=delay_s)
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, _AGAIN_MAX_S)

    async def _fetch(self, wanted: Wanted) -> Package:
        recipe = await self._versions.recipe(wanted.model_name, wanted.version)
        if wanted.artifact_digest and recipe.artifact_digest != wanted.artifact_digest:
            raise MeshError(
                Reason.ARTIFACT_CORRUPT,
                f"the registry has artifact {recipe.artifact_digest} for {wanted.version} of model "
                f"{wanted.model_name!r}, and this replica was made for {wanted.artifact_digest}; versions never "
                "change, so see which registry it asks",
                metadata={"model_name": wanted.model_name, "version": wanted.version},
            )
        # Paths of the registry's own host mean nothing here: the artifact is asked for by its digest.
        deployment = _deployment(wanted, replace(recipe, artifact_path=""), self._clock.now())
        await self._bringer.bring_up(deployment, ())
        return self._bringer.package(deployment)


def _deployment(wanted: Wanted, recipe: Recipe, now: datetime) -> Deployment:
    """What a replica is a part of, as far as its package goes."""
    return Deployment(
        deployment_id="",
        new=NewDeployment(wanted.model_name, wanted.version, "replica", wanted.wish),
        recipe=recipe,
        wish=wanted.wish,
        progress=Progress(),
        generation=1,
        created_at=now,
        updated_at=now,
    )
