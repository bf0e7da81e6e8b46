"""What the engines need that follow, relate and remove. Each has a fake that passes the same tests."""

from collections.abc import Sequence
from typing import Protocol

from services.registry.domain.changes import Change, Wanted
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
