"""Finding versions in PostgreSQL. Queries are made of this module's own text; what callers send is bound.

What is compared and ordered by stands in tables made for it (migration 0008). A query holds only the conditions that
were asked for, so that the planner sees which index serves it, and ends as soon as its page is full where the order
allows that. Whole versions are read of those alone that are shown.
"""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_search_filters import Filter, conditions_of, filters_of
from services.registry.adapters.queries import VERSIONS
from services.registry.adapters.rows import Parameters, version_of
from services.registry.domain.pages import invalid_page_token
from services.registry.domain.search import Found, Order, Search

# Which plan is best depends on what is asked for: never one for all. And none for which processes are started: that
# takes longer than what they are started for, and takes CPUs from the searches of others.
_PLAN_EACH = text("""
    SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
        set_config('max_parallel_workers_per_gather', '0', true)
""")
_WHOLE = text(f"{VERSIONS} AND v.id = ANY(CAST(:ids AS uuid[]))")
_TYPES = {"f.created_at": "timestamptz", "f.updated_at": "timestamptz", "y.value": "double precision"}
_BEYOND = {False: "Infinity", True: "-Infinity"}
"""The key of versions without the metric that is ordered by, which are behind all that have it."""
_ORDERED_BY = "md5({0}.name) = md5(CAST(:order_metric AS text)) AND {0}.name = :order_metric"
_HIGHER = "SELECT true FROM version_finding h WHERE h.model_id = f.model_id AND h.precedence > f.precedence"


class PostgresFinder:
    """A `Finder`."""

    def __init__(self, engine: AsyncEngine) -> None:
        # What is counted, found and then read is of one moment: a hit that went away in between would end the page.
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ")

    async def find(self, search: Search, *, after: tuple[str, ...], limit: int, team: str = "") -> Sequence[Found]:
        """At most `limit` versions from behind `after`."""
        try:
            async with transaction(self._engine) as connection:
                await connection.execute(_PLAN_EACH)
                filters, parameters = await conditions_of(connection, *filters_of(search, team))
                where = [one.condition.format(f="f") for one in filters]
                if search.latest_only and all(one.of_model for one in filters):
                    where.append("f.is_highest")
                elif search.latest_only:
                    where.append(_highest(filters))
                reading = _Reading(connection, where, parameters, search.order)
                hits = await (_by_metric if search.order.by == "metric" else _by_column)(reading, after, limit)
                return await _whole(connection, hits, team)
        except DataError:
            # Everything else that is bound has been checked to be what its column takes.
            raise invalid_page_token() from None


def _highest(filters: Sequence[Filter]) -> str:
    """That no higher version of the model holds, too; what holds of the whole model need not be asked again."""
    also = [one.condition.format(f="h") for one in filters if not one.of_model]
    return f"({' AND '.join([_HIGHER, *also])} LIMIT 1) IS NOT TRUE"


@dataclass(frozen=True, slots=True)
class _Hit:
    """A version that was found, and its position in the order."""

    version_id: UUID
    position: tuple[str, str, str]


async def _whole(connection: AsyncConnection, hits: Sequence[_Hit], team: str) -> Sequence[Found]:
    """The hits as whole versions. A statement of its own: what is planned together is planned badly, because beside
    what a search may cost the planner takes every way to the versions for as good as any other."""
    if not hits:
        return ()
    parameters = {"viewer": team, "ids": [hit.version_id for hit in hits]}
    rows = (await connection.execute(_WHOLE, parameters)).mappings()
    versions = {row["id"]: version_of(row) for row in rows}
    return [Found(versions[hit.version_id], hit.position) for hit in hits if hit.version_id in versions]


async def _by_column(reading: "_Reading", after: tuple[str, ...], limit: int) -> Sequence[_Hit]:
    by = reading.order.by
    return await reading.page("f.model_name" if by == "name" else f"f.{by}", after, limit)


async def _by_metric(reading: "_Reading", after: tuple[str, ...], limit: int) -> Sequence[_Hit]:
    """Those that have the metric by its value, and then, where the page has room, those that have it not by name."""
    found: list[_Hit] = []
    beyond = _BEYOND[reading.order.descending]
    behind_all = bool(after) and after[0] == beyond
    if not behind_all:
        found += await reading.page("y.value", after, limit)
    if len(found) < limit:
        found += await reading.page(f"'{beyond}'", after if behind_all else (), limit - len(found))
    return found


class _Reading:
    """Pages of what holds, by a key: a column, or for versions without the metric that is ordered by a constant."""

    def __init__(self, connection: AsyncConnection, where: Sequence[str], parameters: Parameters, order: Order) -> None:
        self._connection = connection
        self._where = where
        self._parameters = parameters
        self.order = order

    async def page(self, key: str, after: tuple[str, ...], limit: int) -> Sequence[_Hit]:
        """At most `limit` versions from behind `after`."""
        statement, parameters = self.query(key, after)
        rows = (await self._connection.execute(text(statement), parameters | {"limit": limit})).all()
        return [_Hit(version_id, (key, name, precedence)) for version_id, key, name, precedence in rows]

    def query(self, key: str, after: tuple[str, ...]) -> tuple[str, Parameters]:
        """The statement and its parameters, but for `limit`."""
        source, where, parameters = "version_finding f", list(self._where), dict(self._parameters)
        if key == "y.value":
            source += " JOIN version_metrics y ON y.version_id = f.version_id"
            where.append(_ORDERED_BY.format("y"))
        elif key.startswith("'"):
            having = f"SELECT FROM version_metrics x WHERE {_ORDERED_BY.format('x')} AND x.version_id = f.version_id"
            where.append(f"NOT EXISTS ({having})")
        if self.order.by == "metric":
            parameters["order_metric"] = self.order.metric
        order, behind = _order(key, self.order.descending), _behind(key, after, self.order.descending, parameters)
        columns = f"f.version_id, CAST({key} AS text), f.model_name, f.precedence"
        conditions = " AND ".join([*where, *behind]) or "true"
        return f"SELECT {columns} FROM {source} WHERE {conditions} ORDER BY {order} LIMIT :limit", parameters


def _order(key: str, descending: bool) -> str:
    way = "DESC" if descending else "ASC"
    if key in _TYPES:
        return f"{key} {way}, f.model_name, f.precedence DESC"
    # A constant orders nothing, so those without the metric are in the order of names whatever was asked for.
    return f"f.model_name {way if key == 'f.model_name' else 'ASC'}, f.precedence DESC"


def _behind(key: str, after: tuple[str, ...], descending: bool, parameters: Parameters) -> list[str]:
    """The conditions that a version is behind the position `after`. The first alone says where an index begins."""
    if len(after) != 3:
        return []
    parameters |= {"after_key": after[0], "after_name": after[1], "after_precedence": after[2]}
    if key in _TYPES:
        first, sign, place = key, "<" if descending else ">", f"CAST(:after_key AS {_TYPES[key]})"
        then = "(f.model_name > :after_name OR (f.model_name = :after_name AND f.precedence < :after_precedence))"
    else:
        sign = "<" if descending and key == "f.model_name" else ">"
        first, place, then = "f.model_name", ":after_name", "f.precedence < :after_precedence"
    return [f"{first} {sign}= {place}", f"({first} {sign} {place} OR {then})"]
