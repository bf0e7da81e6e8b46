"""What the engines need that follow, relate and remove. Each has a fake that passes the same tests."""

from collections.abc import Sequence
from typing import Protocol

from services.registry.domain.changes import Change, Wanted
from services.registry.domain.deletion import Removal, Target, Use
from services.registry.domain.lineage import Edge, Node


class ChangeLog(Protocol):
    """The audit log. Every call may raise DEPENDENCY_UNAVAILABLE. `team` is whose eyes look; empty sees all."""

    async def page(self, wanted: Wanted, *, before: int, limit: int, team: str = "") -> Sequence[Change]:
        """At most `limit` changes, newest first, numbered below `before` (0: from the newest)."""
        ...

    async def behind(self, wanted: Wanted, *, after: int, limit: int, team: str = "") -> tuple[Sequence[Change], int]:
        """At most `limit` changes in the order of the commits, numbered above `after`; and the number up to which these
        are all there will ever be."""
        ...

    async def last(self) -> int:
        """The number of the last change; 0 where there is none."""
        ...


class LineageBook(Protocol):
    """What was made from what. Every call may raise DEPENDENCY_UNAVAILABLE. What `team`, whose eyes look, does not see,
    is as if it were not there."""

    async def knows(self, model_name: str, version: str, *, team: str = "") -> bool:
        """Whether a version is registered, or was."""
        ...

    async def edges(self, nodes: Sequence[Node], *, upwards: bool, limit: int, team: str = "") -> Sequence[Edge]:
        """At most `limit` of the edges to what the nodes were made from, or else to what was made from them."""
        ...

    async def between(self, nodes: Sequence[Node], *, team: str = "") -> Sequence[Edge]:
        """All edges that begin and end among the nodes."""
        ...


class Removals(Protocol):
    """Models and versions on their way out. Every call may raise DEPENDENCY_UNAVAILABLE.

    What is hidden is seen by nobody, and can be put back as it was. A number that was hidden is never given out again,
    unless its version is put back.
    """

    async def hide(self, target: Target) -> str:
        """Hides a model with all that it has, or a version; the removal's id.

        Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND, ETAG_MISMATCH, RESOURCE_IN_USE where an alias points to the version.
        """
        ...

    async def settle(self, removal: str) -> bool:
        """Makes it a removal, and notes it. False where it was put back meanwhile."""
        ...

    async def put_back(self, removal: str) -> None:
        """Makes it as it was; what had been noted as removed is noted as created. Nothing where it is gone for good."""
        ...

    async def forget(self, removal: str) -> None:
        """Makes a settled removal one that cannot be put back."""
        ...

    async def open(self, *, older_than_s: float, limit: int) -> Sequence[Removal]:
        """At most `limit` removals that can still be put back, begun longer ago than that, the oldest first."""
        ...


class DeploymentBook(Protocol):
    """The deployer, asked in the mesh's own name."""

    async def uses(self, model_name: str) -> Sequence[Use]:
        """The deployments of a model, also those that are ending. Raises a MeshError where the deployer is away."""
        ...
