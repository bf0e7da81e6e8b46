"""The clusters that the deployer was given."""

import asyncio
from collections.abc import Iterable, Mapping

from services.common.errors import MeshError, Reason, invalid
from services.deployer.domain.deployment import LOCAL, Deployment
from services.deployer.ports import Cluster


class Clusters:
    """By name. Changes of wishes of one cluster are made one after the other, whoever makes them: an object and its
    row are two things, and who looks at both must see both or neither changed."""

    def __init__(self, clusters: Mapping[str, Cluster]) -> None:
        self._clusters = clusters
        self._locks = {name: asyncio.Lock() for name in clusters}

    @property
    def names(self) -> Iterable[str]:
        """What deployments may name, the deployer's own servers first."""
        return (LOCAL, *sorted(self._clusters))

    def check(self, name: str) -> None:
        """Raises INVALID_FIELD where there is no such cluster."""
        if name != LOCAL and name not in self._clusters:
            raise invalid("cluster", name, ", ".join(self.names))

    def of(self, deployment: Deployment) -> Cluster:
        """The cluster of a deployment. Raises DEPENDENCY_UNAVAILABLE where the deployer was not given it again."""
        found = self._clusters.get(deployment.new.cluster)
        if found is None:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the deployer knows no cluster {deployment.new.cluster!r} any more; name it in "
                "INFERMESH_DEPLOYER_CLUSTERS again",
            )
        return found

    def named(self, name: str) -> Cluster:
        """A cluster. Raises INVALID_FIELD."""
        self.check(name)
        return self._clusters[name]

    def lock(self, name: str) -> asyncio.Lock:
        """Who changes wishes of that cluster holds it meanwhile."""
        return self._locks[name]

    async def wake(self, deployment: Deployment) -> None:
        """Has a first replica started."""
        cluster, new = self.of(deployment), deployment.new
        found = cluster.find(new.namespace, new.model_name, new.deployment_name)
        if found is not None:
            await cluster.wake(found)
