"""What is needed from Kubernetes clusters."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.batch.domain.indexed_job import Manifest
from services.batch.domain.launched import Launched
from services.common.errors import MeshError
from services.common.signals import Signal


class Launcher(Protocol):
    """Jobs in one Kubernetes cluster, those of this mesh alone. Each call has a deadline. Raises CLUSTER_REFUSED or
    QUOTA_EXCEEDED, and DEPENDENCY_UNAVAILABLE, which passes."""

    @property
    def changed(self) -> Signal:
        """Fires whenever a Job or a pod of one may be otherwise."""
        ...

    @property
    def synced(self) -> bool:
        """Whether all that there is has been read once; until then it is not known what there is."""
        ...

    @property
    def trouble(self) -> MeshError | None:
        """Why it is not known any more how things stand; None: it is."""
        ...

    def jobs(self) -> Sequence[Launched]:
        """All Jobs of this mesh."""
        ...

    def find(self, namespace: str, name: str) -> Launched | None:
        """One of them."""
        ...

    def pods(self, job: Launched) -> Sequence[Mapping[str, object]]:
        """A Job's pods, as the API server sends them."""
        ...

    async def refusals(self, job: Launched) -> Sequence[str]:
        """What the cluster said last when it made no pods for a Job, the newest last."""
        ...

    async def apply(self, manifest: Manifest) -> None:
        """Makes a Job; where it is there, nothing else than before is made of it."""
        ...

    async def change(self, job: Launched, changes: Manifest) -> None:
        """Merges changes into a Job, where it is still there."""
        ...

    async def remove(self, job: Launched) -> None:
        """Removes this very Job with its pods, where it is still there."""
        ...


class Namespaces(Protocol):
    """Where teams are in clusters."""

    async def of(self, team: str) -> str:
        """A team's namespace. Raises TEAM_NOT_FOUND."""
        ...
