"""The lineage of versions in PostgreSQL: edges that triggers keep (migration 0008), walked a step at a time."""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.adapters.queries import SEEN
from services.registry.domain.lineage import Edge, Node, version_node

_KNOWN = "known_versions m LEFT JOIN teams t ON t.id = m.team_id"
# Of a version that is another team's nothing is said, and nothing that leads through it.
_EDGES = f"""
    SELECT e.from_node, e.relation, e.model_name, e.version
    FROM lineage_edges e
    WHERE {{}} AND (SELECT true FROM {_KNOWN} WHERE m.name = e.model_name AND m.version = e.version AND {SEEN} LIMIT 1)
        AND (e.parent_model IS NULL OR (SELECT true FROM {_KNOWN}
            WHERE m.name = e.parent_model AND m.version = e.parent_version AND {SEEN} LIMIT 1))
"""
_SOURCES = text(_EDGES.format("e.to_key = ANY(:keys)") + "ORDER BY e.from_node, e.model_name, e.version LIMIT :limit")
_MADE = text(_EDGES.format("e.from_key = ANY(:keys)") + "ORDER BY e.model_name, e.version LIMIT :limit")
_BETWEEN = text(
    _EDGES.format("e.to_key = ANY(:keys) AND e.from_key = ANY(:keys)") + "ORDER BY e.model_name, e.version, e.relation"
)
_KNOWN_ONE = text(f"SELECT EXISTS (SELECT FROM {_KNOWN} WHERE m.name = :model AND m.version = :version AND {SEEN})")
# Asked of one edge after the other, so that what is far from the node is never looked at.
_SEEN_MODEL = f"""(SELECT true FROM known_models m LEFT JOIN teams t ON t.id = m.team_id
    WHERE m.name = e.model_name AND {SEEN} LIMIT 1)"""
MADE_FROM = f"""{{{{f}}}}.version_id = ANY(ARRAY(
    WITH RECURSIVE made AS (
        SELECT e.to_key, e.model_name, e.version FROM lineage_edges e WHERE e.from_key = :{{0}} AND {_SEEN_MODEL}
        UNION
        SELECT e.to_key, e.model_name, e.version FROM made JOIN lineage_edges e ON e.from_key = made.to_key
        WHERE {_SEEN_MODEL}
    )
    SELECT (SELECT v.id FROM models o JOIN model_versions v ON v.model_id = o.id
        WHERE o.name = made.model_name AND v.version = made.version) FROM made))
"""
"""The condition that a version `f` was made from the node of the key `:{0}`, directly or through versions that the
viewer sees, also where they are gone."""


class PostgresLineageBook:
    """A `LineageBook`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def knows(self, model_name: str, version: str, *, team: str = "") -> bool:
        """Whether the version is registered, or was."""
        parameters = {"model": model_name, "version": version, "viewer": team}
        async with transaction(self._engine) as connection:
            return bool((await connection.execute(_KNOWN_ONE, parameters)).scalar_one())

    async def edges(self, nodes: Sequence[Node], *, upwards: bool, limit: int, team: str = "") -> Sequence[Edge]:
        """At most `limit` edges to what the nodes were made from, or to what was made from them."""
        parameters = {"keys": [node.key for node in nodes], "limit": limit, "viewer": team}
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_SOURCES if upwards else _MADE, parameters)).all()
        return [_edge(*row) for row in rows]

    async def between(self, nodes: Sequence[Node], *, team: str = "") -> Sequence[Edge]:
        """All edges that begin and end among the nodes."""
        parameters = {"keys": [node.key for node in nodes], "viewer": team}
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_BETWEEN, parameters)).all()
        return [_edge(*row) for row in rows]


def _edge(from_node: str, relation: str, model_name: str, version: str) -> Edge:
    kind, _, name = from_node.partition(":")
    return Edge(Node(kind, name), version_node(model_name, version), relation)
