"""The versions of each deployment: the one that it has, and the older ones that are kept."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from services.deployer.domain.deployment import Deployment
from services.deployer.domain.retention import Lineage

_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Family:
    """All deployments at one look."""

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self._current: dict[str, Deployment] = {}
        self._older: dict[str, list[Deployment]] = {}
        for one in deployments:
            if one.successor:
                self._older.setdefault(one.successor, []).append(one)
            else:
                self._current[one.deployment_id] = one

    def lineage(self, deployment: Deployment) -> Lineage:
        """What `next_step` needs to know of the others."""
        if not deployment.successor:
            return Lineage()
        since = _superseded(deployment)
        younger = sum(
            one.progress.asleep_since is not None and _superseded(one) > since
            for one in self._older[deployment.successor]
        )
        return Lineage(self._current.get(deployment.successor), younger)

    def versions(self, deployment: Deployment) -> Sequence[str]:
        """The older versions of a deployment."""
        return [one.new.version for one in self._older.get(deployment.deployment_id, ())]


def _superseded(deployment: Deployment) -> datetime:
    return deployment.progress.warm_until or _EARLIEST
