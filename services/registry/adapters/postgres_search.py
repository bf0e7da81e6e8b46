"""Finding versions in PostgreSQL. Queries are made of this module's own text; what callers send is bound."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.adapters.queries import SEEN, VERSIONS
from services.registry.adapters.rows import Parameters, version_of
from services.registry.domain.pages import invalid_page_token
from services.registry.domain.search import Found, Order, Search

_TEXT = (
    "lower(concat_ws(' ', m.name, m.description, array_to_string(m.tags || v.tags, ' '), m.model_card, v.model_card))"
)
# What is compared and sorted; the rest is read of those alone that are shown.
_KEYS = f"""
    SELECT v.id, v.model_id, v.precedence, v.created_at, v.updated_at, v.training_metrics, m.name AS model_name
    FROM model_versions v JOIN models m ON m.id = v.model_id LEFT JOIN teams t ON t.id = m.team_id
    WHERE {SEEN}
"""  # noqa: S608 - the module's own text
_METRIC = "CAST(v.training_metrics ->> :{} AS double precision)"
_OPERATORS = {"<": "<", "<=": "<=", "=": "=", "!=": "<>", ">=": ">=", ">": ">"}
_FIXED = """
    AND starts_with(m.name, :prefix) AND (:framework = '' OR m.framework = :framework)
    AND (:stage = '' OR v.status = :stage) AND (:of_team = '' OR t.name = :of_team)
    AND (m.tags || v.tags) @> CAST(:tags AS text[])
    AND (:alias = '' OR EXISTS (SELECT FROM model_aliases a WHERE a.version_id = v.id AND a.alias = :alias))
"""


class PostgresFinder:
    """A `Finder`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, search: Search, *, after: tuple[str, ...], limit: int, team: str = "") -> Sequence[Found]:
        """At most `limit` versions from behind `after`."""
        query, parameters = _query(search, after)
        try:
            async with transaction(self._engine) as connection:
                rows = (await connection.execute(text(query), parameters | {"viewer": team, "limit": limit})).mappings()
                return [
                    Found(version_of(row), (row["sorted_by"], row["model_name"], row["precedence"])) for row in rows
                ]
        except DataError:
            # Everything else that is bound has been checked to be what its column takes.
            raise invalid_page_token() from None


def _query(search: Search, after: tuple[str, ...]) -> tuple[str, Parameters]:
    parameters: Parameters = {
        "prefix": search.prefix,
        "framework": search.framework,
        "stage": search.stage,
        "of_team": search.of_team,
        "tags": list(search.tags),
        "alias": search.alias,
    }
    conditions = [_FIXED]
    for number, word in enumerate(search.words):
        conditions.append(f"AND strpos({_TEXT}, :word{number}) > 0")
        parameters[f"word{number}"] = word.lower()
    for number, comparison in enumerate(search.metrics):
        metric = _METRIC.format(f"metric{number}")
        conditions.append(f"AND {metric} {_OPERATORS[comparison.operator]} :number{number}")
        parameters |= {f"metric{number}": comparison.metric, f"number{number}": comparison.number}
    matching = f"{_KEYS} {' '.join(conditions)}"
    if search.latest_only:
        matching = f"SELECT DISTINCT ON (model_id) * FROM ({matching}) v ORDER BY model_id, precedence DESC"  # noqa: S608
    key, kind = _key(search.order, parameters)
    behind = ""
    if len(after) == 3:
        way = "<" if search.order.descending else ">"
        key_after = f"CAST(:after_key AS {kind})"
        behind = (
            f"WHERE {key} {way} {key_after} OR ({key} = {key_after} AND (model_name > :after_name"
            " OR (model_name = :after_name AND precedence < :after_precedence)))"
        )
        parameters |= dict(zip(("after_key", "after_name", "after_precedence"), after, strict=True))
    direction = "DESC" if search.order.descending else "ASC"
    order = f"{key} {direction}, model_name, precedence DESC"
    query = (
        f"WITH hits AS (SELECT id, CAST({key} AS text) AS sorted_by, row_number() OVER (ORDER BY {order}) AS rank "  # noqa: S608
        f"FROM ({matching}) v {behind} ORDER BY {order} LIMIT :limit) "
        f"SELECT whole.*, hits.sorted_by FROM hits JOIN ({VERSIONS}) whole ON whole.id = hits.id ORDER BY hits.rank"
    )
    return query, parameters


def _key(order: Order, parameters: Parameters) -> tuple[str, str]:
    """The expression that versions are ordered by, and its type."""
    if order.by == "metric":
        parameters["order_metric"] = order.metric
        last = "-infinity" if order.descending else "infinity"
        return f"coalesce({_METRIC.format('order_metric')}, '{last}'::double precision)", "double precision"
    if order.by == "name":
        return "model_name", "text"
    return f"v.{order.by}", "timestamptz"
