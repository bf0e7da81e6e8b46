"""A version is called active once whoever sends a prediction there finds it.

It is published as soon as it answers, and reaches gateways and batchers through the router, milliseconds later. Who
reads "active" and calls at once must not come before that.
"""

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.deployer.domain.deployment import Deployment
from services.deployer.ports import TrafficRouter

log = get_logger(__name__)

_FIRST_S = 0.005
_MOST_S = 0.25


class Announcer:
    """Asks the router until gateways and batchers know a version, for `patience_s` seconds at most: a gateway that
    hangs must not keep a version that answers from being called active."""

    def __init__(self, *, router: TrafficRouter, clock: Clock, patience_s: float) -> None:
        self._router = router
        self._clock = clock
        self._patience_s = patience_s

    async def known(self, deployment: Deployment) -> bool:
        """Returns once they know it. False where they do not in time, or the router does not say."""
        until_s = self._clock.monotonic() + self._patience_s
        delay_s, problem = _FIRST_S, "a gateway or a batcher has not acknowledged it"
        while True:
            try:
                if await self._router.knows(deployment):
                    return True
            except MeshError as error:
                problem = error.message
            if self._clock.monotonic() + delay_s > until_s:
                log.warning(
                    "called active before it is known everywhere", deployment=deployment.server_model_name, why=problem
                )
                return False
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, _MOST_S)
