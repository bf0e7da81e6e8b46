"""The lineage of versions in PostgreSQL: edges that triggers keep (migration 0008), walked a step at a time."""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.adapters.queries import SEEN
from services.registry.domain.lineage import Edge, Node, version_node

# Of a version that is another team's nothing is said, and nothing that leads through it.
_EDGES = f"""
    SELECT e.from_node, e.relation, e.model_name, e.version
    FROM lineage_edges e
    WHERE {{}} AND (SELECT true FROM known_versions m
            WHERE m.name = e.model_name AND m.version = e.version AND {SEEN} LIMIT 1)
        AND (e.parent_model IS NULL OR (SELECT true FROM known_versions m
            WHERE m.name = e.parent_model AND m.version = e.parent_version AND {SEEN} LIMIT 1))
"""
_SOURCES = text(_EDGES.format("e.to_key = ANY(:keys)") + "ORDER BY e.from_node, e.model_name, e.version LIMIT :limit")
_MADE = text(_EDGES.format("e.from_key = ANY(:keys)") + "ORDER BY e.model_name, e.version LIMIT :limit")
_BETWEEN = text(
    _EDGES.format("e.to_key = ANY(:keys) AND e.from_key = ANY(:keys)") + "ORDER BY e.model_name, e.version, e.relation"
)
_KNOWN_ONE = text(
    f"SELECT EXISTS (SELECT FROM known_versions m WHERE m.name = :model AND m.version = :version AND {SEEN})"
)
# Asked of one edge after the other, so that what is far from the node is never looked at.
_SEEN_MODEL = f"(SELECT true FROM known_models m WHERE m.name = e.model_name AND {SEEN} LIMIT 1)"


def made_from(node: str, *, sees_all: bool) -> str:
    """The SELECT of the ids of versions that were made from the node of the key `:node`, directly or through versions
    that the viewer sees, also where they are gone.

    What is in front of OFFSET 0 is looked up for one version after the other: the planner takes the steps to lead to
    far more versions than they do, and would read whole tables.
    """
    seen = "true" if sees_all else _SEEN_MODEL
    return f"""
        WITH RECURSIVE made AS (
            SELECT e.to_key, e.model_name, e.version FROM lineage_edges e WHERE e.from_key = :{node} AND {seen}
            UNION
            SELECT e.to_key, e.model_name, e.version FROM made CROSS JOIN LATERAL (
                SELECT * FROM lineage_edges e WHERE e.from_key = made.to_key AND {seen} OFFSET 0) e
        )
        SELECT v.id FROM made CROSS JOIN LATERAL (
            SELECT v.id FROM models o JOIN model_versions v ON v.model_id = o.id
            WHERE o.name = made.model_name AND v.version = made.version OFFSET 0) v
    """


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
