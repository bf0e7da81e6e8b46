"""The audit log and lineage in memory: each passes the contract tests that its real twin passes."""

from collections.abc import Sequence, Set

from services.common.clock import Clock
from services.registry.adapters.change_rows import NewChange
from services.registry.domain.changes import Change, Wanted
from services.registry.domain.lineage import Node, version_node
from services.registry.domain.version import Version


class MemoryChangeLog:
    """A `ChangeLog`. Whom it shows what: a viewer sees the changes that its team made, and of the models it is told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changes: list[tuple[Change, str]] = []
        self.seen_models: dict[str, set[str]] = {}

    async def add(self, new: NewChange) -> None:
        """Notes a change."""
        change = Change(
            number=len(self._changes) + 1,
            resource_type=new.resource_type,
            resource_name=new.resource_name,
            action=new.action,
            actor=new.actor,
            team=new.team,
            request_id=new.request_id,
            reason=new.reason,
            before=new.before,
            after=new.after,
            time=self._clock.now(),
        )
        self._changes.append((change, new.model_name))

    async def page(self, wanted: Wanted, *, before: int, limit: int, team: str = "") -> Sequence[Change]:
        """At most `limit` changes, newest first."""
        found = [one for one in self._found(wanted, team) if not before or one.number < before]
        return found[::-1][:limit]

    async def behind(self, wanted: Wanted, *, after: int, limit: int, team: str = "") -> tuple[Sequence[Change], int]:
        """At most `limit` changes in order."""
        found = [one for one in self._found(wanted, team) if one.number > after][:limit]
        return found, found[-1].number if len(found) == limit else max(after, len(self._changes))

    async def last(self) -> int:
        """The number of the last change."""
        return len(self._changes)

    def _found(self, wanted: Wanted, team: str) -> list[Change]:
        return [
            change
            for change, model in self._changes
            if (not wanted.resource_types or change.resource_type in wanted.resource_types)
            and wanted.resource_name in ("", change.resource_name)
            and wanted.model_name in ("", model)
            and wanted.actor in ("", change.actor)
            and wanted.team in ("", change.team)
            and (wanted.start is None or change.time >= wanted.start)
            and (wanted.end is None or change.time < wanted.end)
            and (not team or change.team == team or model in self.seen_models.get(team, set()))
        ]


def made_from(start: Node, versions: Sequence[Version]) -> Set[str]:
    """The ids of those of the versions that were made from the node, directly or through others of them."""
    found: set[str] = set()
    nodes = {start}
    while True:
        more = {one.version_id for one in versions if nodes & set(sources_of(one))} - found
        if not more:
            return found
        found |= more
        nodes |= {version_node(one.model_name, one.version) for one in versions if one.version_id in more}


def sources_of(version: Version) -> Sequence[Node]:
    """What a version says that it was made from."""
    lineage = version.content.lineage
    named = (
        ("run", lineage.training_run),
        ("dataset", lineage.dataset),
        ("commit", lineage.code_commit),
        ("person", lineage.trained_by),
    )
    nodes = [Node(kind, name) for kind, name in named if name]
    model, at, number = lineage.parent_version.rpartition("@")
    if number:
        nodes.append(version_node(model if at else version.model_name, number))
    return nodes
