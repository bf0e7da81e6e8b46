"""A model server and a router that fail where the deployer of a machine does what it must not."""

from datetime import timedelta
from typing import TYPE_CHECKING

from services.deployer.domain.deployment import Deployment
from tests.support.deployer_fakes import FakeServer, FakeTraffic

if TYPE_CHECKING:
    from tests.support.deployer_machine import DeployerMachine


class CheckedServer(FakeServer):
    """Fails where something is unloaded that callers still find published."""

    machine: "DeployerMachine"

    async def load(self, name: str) -> None:
        """As the server does, where what it needs is installed."""
        package = self.machine.packages.packages.get(name)
        assert package is None or not package.in_environment or name in self.machine.packages.links
        await super().load(name)

    async def unload(self, name: str) -> None:
        """As the server does, once what was under way has had time to end."""
        here = (self.place.server_id, name)
        assert here not in self.machine.places(), f"{name} is unloaded where it is published"
        since = self.machine.unpublished.get(here)
        assert since is None or self.machine.clock.now() >= since + timedelta(seconds=2.4), "it has not drained"
        for row in await self.machine.store.every():
            since = row.progress.asleep_since
            if row.server_model_name == name and since is not None and not row.deleting:
                assert self.machine.clock.now() >= since + timedelta(seconds=3)
        await super().unload(name)


class CheckedTraffic(FakeTraffic):
    """Fails where gateways are waited for that could not know."""

    machine: "DeployerMachine"

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[tuple[str, int]] = set()
        """Ids of deployments, and the wishes, after which gateways were asked."""

    async def knows(self, deployment: Deployment) -> bool:
        """As often as was set, not yet."""
        self.asked.add((deployment.deployment_id, deployment.generation))
        assert deployment.server_model_name in self.machine.known(), "it is waited for what was not published"
        return await super().knows(deployment)
