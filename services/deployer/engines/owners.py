"""Keeps deployments with the team that owns their model, also after the model was given to another."""

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.deployer.ports import DeploymentStore, Terms

log = get_logger(__name__)

_AGAIN_S = 2.0


class Owners:
    """A background task that follows what the registry says."""

    def __init__(self, *, store: DeploymentStore, terms: Terms, changes: Signal, clock: Clock) -> None:
        self._store = store
        self._terms = terms
        self._changes = changes
        self._clock = clock

    async def run(self) -> None:
        """Looks whenever the registry said something; never ends by itself."""
        while True:
            changed = self._changes.current
            try:
                await self._look()
            except MeshError as error:
                log.warning("deployments are not handed over yet", error=error.message)
                await self._clock.sleep(_AGAIN_S)
                continue
            await changed.wait()

    async def _look(self) -> None:
        moved: dict[str, str] = {}
        for deployment in await self._store.every():
            standing = self._terms.standing(deployment.new.model_name)
            if standing is not None and standing.team != deployment.new.team:
                moved[deployment.new.model_name] = standing.team
        for model, team in moved.items():
            await self._store.hand_over(model, team)
            log.info("deployments handed over", model=model, team=team)
