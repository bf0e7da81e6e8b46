"""Finding versions in PostgreSQL. Queries are made of this module's own text; what callers send is bound.

What is compared and ordered by stands in tables made for it (migration 0008). A query holds only the conditions that
were asked for, so that the planner sees which index serves it, and ends as soon as its page is full where the order
allows that. Whole versions are read of those alone that are shown.
"""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_lineage import MADE_FROM
from services.registry.adapters.queries import SEEN, VERSIONS
from services.registry.adapters.rows import Parameters, version_of
from services.registry.domain.pages import invalid_page_token
from services.registry.domain.search import Found, Search

_FROM = "version_finding f JOIN models m ON m.id = f.model_id LEFT JOIN teams t ON t.id = m.team_id"
_OPERATORS = {"<": "<", "<=": "<=", "=": "=", "!=": "<>", ">=": ">=", ">": ">"}
_METRIC = "SELECT x.version_id FROM version_metrics x WHERE md5(x.name) = md5(CAST(:{0} AS text)) AND x.name = :{0}"
_WORD = """f.version_id IN (
    SELECT w.version_id FROM version_finding w WHERE w.words LIKE :{0}
    UNION ALL
    SELECT w.version_id FROM model_words o JOIN version_finding w ON w.model_id = o.model_id WHERE o.words LIKE :{0})
"""
# Which plan is best depends on what is asked for: never one for all.
_PLAN_EACH = text("SELECT set_config('plan_cache_mode', 'force_custom_plan', true)")
_TYPES = {"f.created_at": "timestamptz", "f.updated_at": "timestamptz", "y.value": "double precision"}
_BEYOND = {False: "Infinity", True: "-Infinity"}
"""The key of versions without the metric that is ordered by, which are behind all that have it."""


class PostgresFinder:
    """A `Finder`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, search: Search, *, after: tuple[str, ...], limit: int, team: str = "") -> Sequence[Found]:
        """At most `limit` versions from behind `after`."""
        try:
            async with transaction(self._engine) as connection:
                await connection.execute(_PLAN_EACH)
                if search.order.by != "metric":
                    return await _read(connection, _query(search, after, "f." + _column(search)), limit, team)
                return await _by_metric(connection, search, after, limit, team)
        except DataError:
            # Everything else that is bound has been checked to be what its column takes.
            raise invalid_page_token() from None


async def _by_metric(
    connection: AsyncConnection, search: Search, after: tuple[str, ...], limit: int, team: str
) -> Sequence[Found]:
    """Those that have the metric by its value, and then, where the page has room, those that have it not by name."""
    found: list[Found] = []
    beyond = _BEYOND[search.order.descending]
    behind_all = bool(after) and after[0] == beyond
    if not behind_all:
        found += await _read(connection, _query(search, after, "y.value"), limit, team)
    if len(found) < limit:
        rest = after if behind_all else ()
        found += await _read(connection, _query(search, rest, f"'{beyond}'"), limit - len(found), team)
    return found


async def _read(connection: AsyncConnection, query: tuple[str, Parameters], limit: int, team: str) -> Sequence[Found]:
    statement, parameters = query
    rows = (await connection.execute(text(statement), parameters | {"viewer": team, "limit": limit})).mappings()
    return [Found(version_of(row), (row["sorted_by"], row["model_name"], row["precedence"])) for row in rows]


def _column(search: Search) -> str:
    return "model_name" if search.order.by == "name" else search.order.by


def _query(search: Search, after: tuple[str, ...], key: str) -> tuple[str, Parameters]:
    """A page by `key`: a column, or for versions without the metric that is ordered by a constant."""
    conditions, parameters = _conditions(search)
    source, constant = _FROM, key.startswith("'")
    if key == "y.value" or constant:
        parameters["order_metric"] = search.order.metric
        having = f"{_METRIC.format('order_metric')} AND x.version_id = f.version_id"
        if constant:
            conditions.append(f"NOT EXISTS ({having})")
        else:
            source += " JOIN version_metrics y ON y.version_id = f.version_id"
            conditions.append("md5(y.name) = md5(CAST(:order_metric AS text)) AND y.name = :order_metric")
    order, behind = _order(key, search.order.descending), _behind(key, after, search.order.descending, parameters)
    columns = f"f.version_id, {key} AS sorted_by, f.model_name, f.precedence"
    matching = f"SELECT {columns} FROM {source} WHERE {' AND '.join(conditions)}"
    if search.latest_only and _of_models_alone(search):
        matching += " AND f.is_highest"
    elif search.latest_only:
        of_each = "DISTINCT ON (one.model_name) one.*"
        matching = f"SELECT {of_each} FROM ({matching}) one ORDER BY one.model_name, one.precedence DESC"
    statement = (
        f"WITH hits AS (SELECT h.*, row_number() OVER (ORDER BY {order}) AS rank FROM ({matching}) h {behind} "
        f"ORDER BY {order} LIMIT :limit) "
        f"SELECT whole.*, CAST(hits.sorted_by AS text) AS sorted_by FROM hits JOIN ({VERSIONS}) whole "
        "ON whole.id = hits.version_id ORDER BY hits.rank"
    )
    return statement, parameters


def _order(key: str, descending: bool) -> str:
    way = "DESC" if descending else "ASC"
    if key not in _TYPES:
        # A constant orders nothing, so those without the metric are in the order of names whatever was asked for.
        return f"h.model_name {way if key == 'f.model_name' else 'ASC'}, h.precedence DESC"
    return f"h.sorted_by {way}, h.model_name, h.precedence DESC"


def _behind(key: str, after: tuple[str, ...], descending: bool, parameters: Parameters) -> str:
    """The condition that a version is behind the position `after`. Its first part alone says where an index begins."""
    if len(after) != 3:
        return ""
    parameters |= {"after_key": after[0], "after_name": after[1], "after_precedence": after[2]}
    if key in _TYPES:
        first, sign, place = "h.sorted_by", "<" if descending else ">", f"CAST(:after_key AS {_TYPES[key]})"
        then = "(h.model_name > :after_name OR (h.model_name = :after_name AND h.precedence < :after_precedence))"
    else:
        sign = "<" if descending and key == "f.model_name" else ">"
        first, place, then = "h.model_name", ":after_name", "h.precedence < :after_precedence"
    return f"WHERE {first} {sign}= {place} AND ({first} {sign} {place} OR {then})"


def _of_models_alone(search: Search) -> bool:
    """Whether all versions of a model match or none does."""
    return not (search.words or search.tags or search.stage or search.alias or search.metrics or search.lineage)


def _conditions(search: Search) -> tuple[list[str], Parameters]:
    conditions, parameters = [SEEN], Parameters()
    if search.prefix:
        conditions.append("starts_with(f.model_name, :prefix)")
    if search.of_team:
        conditions.append("m.team_id = (SELECT id FROM teams WHERE name = :of_team)")
    if search.tags:
        conditions.append("f.tags @> CAST(:tags AS text[])")
    if search.alias:
        conditions.append("f.version_id IN (SELECT a.version_id FROM model_aliases a WHERE a.alias = :alias)")
    for column, value in (("framework", search.framework), ("status", search.stage)):
        if value:
            conditions.append(f"f.{column} = :{column}")
            parameters[column] = value
    parameters |= {"prefix": search.prefix, "of_team": search.of_team, "tags": list(search.tags), "alias": search.alias}
    for number, word in enumerate(search.words):
        conditions.append(_WORD.format(f"word{number}"))
        parameters[f"word{number}"] = f"%{_literal(word.lower())}%"
    for number, comparison in enumerate(search.metrics):
        operator = _OPERATORS[comparison.operator]
        metric = _METRIC.format(f"metric{number}")
        conditions.append(
            f"f.version_id IN ({metric} AND x.value {operator} CAST(:number{number} AS double precision))"
        )
        parameters |= {f"metric{number}": comparison.metric, f"number{number}": comparison.number}
    for number, node in enumerate(search.lineage):
        conditions.append(MADE_FROM.format(f"node{number}"))
        parameters[f"node{number}"] = node.key
    return conditions, parameters


def _literal(word: str) -> str:
    """The word with what LIKE would read otherwise escaped."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
