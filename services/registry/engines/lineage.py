"""Walking the lineage around a version, run, data set, commit or person."""

from services.common.errors import MeshError
from services.common.names import check_model_name, check_version
from services.registry.domain.lineage import (
    NODES_MAX,
    Graph,
    Growth,
    Node,
    check_depth,
    check_direction,
    merged,
    parse_node,
    version_node,
)
from services.registry.engines.reading import Reading
from services.registry.ports_history import LineageBook

_EDGES_MAX = 20_000
"""Read in one step: many edges may lead to one node."""


class Tracing:
    """The call that walks. `team` is the viewer; what it does not see ends every path."""

    def __init__(self, book: LineageBook, *, reading: Reading) -> None:
        self._book = book
        self._reading = reading

    async def around(
        self, *, model_name: str, version: str, node_id: str, direction: str, depth_max: int, team: str
    ) -> Graph:
        """The graph around a node, or without one around a version.

        A node that nothing was made from is a graph of itself: whether it is unknown or another team's makes no
        difference. Raises INVALID_FIELD, and for a version MODEL_NOT_FOUND, VERSION_NOT_FOUND.
        """
        way, depth = check_direction(direction), check_depth(depth_max)
        if node_id:
            start = parse_node(node_id, "node_id")
            if start.kind == "version":
                model_name, _, version = start.name.rpartition("@")
                await self._known(model_name, version, team)
        else:
            start = await self._version(model_name, version, team)
        growths = [
            await self._grown(start, depth, upwards=upwards, team=team)
            for upwards, wanted in ((True, "ancestors"), (False, "descendants"))
            if way in ("both", wanted)
        ]
        nodes, truncated = merged(growths)
        return Graph(nodes, sorted(await self._book.between(nodes, team=team)), truncated)

    async def _grown(self, start: Node, depth: int, *, upwards: bool, team: str) -> Growth:
        growth = Growth(start, upwards)
        for _ in range(depth):
            if not growth.frontier or growth.truncated:
                break
            edges = await self._book.edges(growth.frontier, upwards=upwards, limit=_EDGES_MAX, team=team)
            growth.take(edges)
            if len(edges) == _EDGES_MAX:
                growth.truncated = True
        assert len(growth.distances) <= NODES_MAX
        return growth

    async def _version(self, model_name: str, version: str, team: str) -> Node:
        """By number, also of one that is gone; by "latest" or an alias only of those that are there."""
        check_model_name(model_name)
        try:
            number = check_version(version)
        except MeshError:
            found = await self._reading.version(model_name, version, team=team)
            return version_node(found.model_name, found.version)
        await self._known(model_name, number, team)
        return version_node(model_name, number)

    async def _known(self, model_name: str, version: str, team: str) -> None:
        if not await self._book.knows(model_name, version, team=team):
            await self._reading.version(model_name, version, team=team)
