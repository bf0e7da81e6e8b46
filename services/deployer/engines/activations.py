"""Waking versions that sleep: any number of callers wait for the one load that the reconciler makes of it."""

from dataclasses import dataclass

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.names import check_model_name, check_version
from services.common.signals import Signal, wait_at_most
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.plan import TRANSIENT
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.demand import Demand
from services.deployer.ports import DeploymentStore

_LOOK_AGAIN_S = 0.5
_MEMORY_AGAIN_S = 5.0
"""When who found no memory may ask again: it is not theirs to mend."""


@dataclass(frozen=True, slots=True)
class Activated:
    """A version is listed as loaded from this revision on."""

    revision: int
    load_time_ms: float
    """0: it was loaded already."""


class Activations:
    """The call of ActivationService. `changed` fires whenever a deployment may have changed."""

    def __init__(
        self, *, store: DeploymentStore, catalog: Catalog, demand: Demand, changed: Signal, clock: Clock
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._demand = demand
        self._changed = changed
        self._clock = clock

    async def activate(self, model_name: str, version: str, *, timeout_s: float) -> Activated:
        """Returns once the version is listed as loaded. A neighbour that is away is waited for.

        Raises VERSION_NOT_DEPLOYED, what its load failed by, or DEADLINE_TOO_SHORT after `timeout_s` seconds.
        """
        check_model_name(model_name)
        name = (model_name, check_version(version))
        deadline_s = self._clock.monotonic() + timeout_s
        attempts: int | None = None
        load_time_ms, waits = 0.0, False
        while True:
            changed = self._changed.current
            found = await self._found(*name)
            if self._catalog.lists(*name):
                if found is not None and waits:
                    load_time_ms = found.progress.load_time_ms
                return Activated(self._catalog.revision, load_time_ms)
            if found is not None:
                attempts = found.progress.attempts if attempts is None else attempts
                self._raise_failure(found, attempts)
            left_s = deadline_s - self._clock.monotonic()
            if left_s <= 0:
                raise MeshError(
                    Reason.DEADLINE_TOO_SHORT,
                    f"{version} of model {model_name!r} was not loaded within {timeout_s:.0f} s; its deployment's "
                    "conditions say how far it is",
                )
            self._demand.want(name)
            waits = True
            await wait_at_most(changed, min(left_s, _LOOK_AGAIN_S))

    def _raise_failure(self, found: Deployment, attempts: int) -> None:
        """Raises what the load failed by, in an attempt since there were `attempts`, or lately."""
        progress = found.progress
        failure, again = progress.failure, progress.next_attempt_at
        if failure is None or Reason(failure.reason) in TRANSIENT:
            return
        if progress.attempts > attempts or again is None or again > self._clock.now():
            reason = Reason(failure.reason)
            again_s = _MEMORY_AGAIN_S if reason is Reason.MEMORY_EXHAUSTED else None
            raise MeshError(reason, failure.message, retry_after_s=again_s)

    async def _found(self, model_name: str, version: str) -> Deployment | None:
        """The deployment; None while the store does not answer."""
        try:
            return await self._find(model_name, version)
        except MeshError as error:
            if error.reason not in TRANSIENT:
                raise
            return None

    async def _find(self, model_name: str, version: str) -> Deployment:
        found = await self._store.holder(model_name, version)
        if found is not None and not found.deleting and not found.halted and found.progress.loaded:
            return found
        raise MeshError(
            Reason.VERSION_NOT_DEPLOYED,
            f"{version} of model {model_name!r} has no deployment that has answered and has replicas; deploy it or "
            "scale it up, and wait until it is active",
            metadata={"model_name": model_name, "version": version},
        )
