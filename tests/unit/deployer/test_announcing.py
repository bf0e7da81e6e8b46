"""A version is called active once gateways and batchers know it, or when they have had their time."""

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import Deployment
from services.deployer.engines.announcing import Announcer
from tests.support.clock import NOON
from tests.support.deployer_clusters import some_deployment
from tests.support.deployer_fakes import FakeTraffic, recipe

pytestmark = pytest.mark.looptime
PATIENCE_S = 2.0
DEPLOYMENT = some_deployment("digits", "v1.0.0", recipe())


class AwayTraffic(FakeTraffic):
    """A router that does not answer until it was asked so often."""

    async def knows(self, deployment: Deployment) -> bool:
        if not await super().knows(deployment):
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the router does not answer")
        return True


@pytest.mark.parametrize("traffic", [FakeTraffic, AwayTraffic])
@pytest.mark.parametrize(
    ("looks", "known", "within_s"),
    [(0, True, (0.0, 0.0)), (3, True, (0.01, 0.1)), (1000, False, (PATIENCE_S - 0.25, PATIENCE_S))],
)
async def test_it_is_waited_for_as_long_as_it_takes_and_never_for_longer_than_that(
    traffic: type[FakeTraffic], looks: int, known: bool, within_s: tuple[float, float]
) -> None:
    clock, router = LoopClock(NOON), traffic()
    router.looks_until_known = looks
    began_s = clock.monotonic()
    assert await Announcer(router=router, clock=clock, patience_s=PATIENCE_S).known(DEPLOYMENT) is known
    assert within_s[0] <= clock.monotonic() - began_s <= within_s[1]
