"""The conditions of a search, each in a form that fits how many versions it leaves.

PostgreSQL cannot know how many versions have `accuracy > 0.9` or a word in their card, and a plan for few is a bad one
for many and the other way round. So each such condition is counted first, up to a bound, which costs a millisecond. One
that leaves few is read first, as an array, and the search begins there. One that leaves many is tried on one version
after the other, in the order asked for, until the page is full. `{f}` is the row of `version_finding` that it is about.
"""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.registry.adapters.postgres_lineage import MADE_FROM
from services.registry.adapters.queries import SEEN
from services.registry.adapters.rows import Parameters
from services.registry.domain.access import EVERYBODY
from services.registry.domain.search import Comparison, Search

FEW = 1000
"""Versions, or models, that a search may begin at."""
_OPERATORS = {"<": "<", "<=": "<=", "=": "=", "!=": "<>", ">=": ">=", ">": ">"}
_SEEN_MAX = 5000
"""Models whose ids go into a query as they are."""
_MODELS = "FROM models m LEFT JOIN teams t ON t.id = m.team_id"
_SEEN_MODELS = f"(SELECT array_agg(c.id) FROM (SELECT m.id {_MODELS} WHERE {SEEN} LIMIT {_SEEN_MAX + 1}) c)"
_SEES_FEW = "{f}.model_id = ANY(CAST(:seen AS uuid[]))"
_SEES_MANY = f"(SELECT true {_MODELS} WHERE m.id = {{f}}.model_id AND {SEEN})"


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition, and the form to use where what `matching` selects is much; () where it need not be counted."""

    condition: str
    many: str = ""
    matching: tuple[str, ...] = ()
    of_model: bool = False
    """Whether it holds for all versions of a model or for none."""

    def for_many(self) -> "Filter":
        """The same in the other form."""
        return replace(self, condition=self.many)


def filters_of(search: Search, viewer: str) -> tuple[list[Filter], Parameters]:
    """The filters that a search needs, and their parameters."""
    parameters: Parameters = {"viewer": viewer}
    found: list[Filter] = []
    if search.prefix:
        found.append(Filter("starts_with({f}.model_name, :prefix)", of_model=True))
        parameters["prefix"] = search.prefix
    if search.of_team:
        owned = "SELECT o.id FROM models o JOIN teams h ON h.id = o.team_id WHERE h.name = :of_team"
        found.append(Filter(f"{{f}}.model_id IN ({owned})", of_model=True))
        parameters["of_team"] = search.of_team
    if search.framework:
        found.append(Filter("{f}.framework = :framework", of_model=True))
        parameters["framework"] = search.framework
    if search.stage:
        found.append(Filter("{f}.status = :stage"))
        parameters["stage"] = search.stage
    if search.tags:
        found.append(Filter("{f}.tags @> CAST(:tags AS text[])"))
        parameters["tags"] = list(search.tags)
    if search.alias:
        found.append(_alias())
        parameters["alias"] = search.alias
    for number, word in enumerate(search.words):
        # The database makes both small: what it takes for the small form of a letter depends on its locale.
        found.append(_word(f"lower(:word{number})"))
        parameters[f"word{number}"] = f"%{_literal(word)}%"
    for number, comparison in enumerate(search.metrics):
        found.append(_metric(comparison, f":metric{number}", f"CAST(:number{number} AS double precision)"))
        parameters |= {f"metric{number}": comparison.metric, f"number{number}": comparison.number}
    for number, node in enumerate(search.lineage):
        found.append(Filter(MADE_FROM.format(f"node{number}")))
        parameters[f"node{number}"] = node.key
    return found, parameters


async def conditions_of(
    connection: AsyncConnection, filters: Sequence[Filter], parameters: Parameters
) -> tuple[list[Filter], Parameters]:
    """Each filter in the form to use, what the viewer sees among them, and the parameters that they need."""
    sees_all = parameters["viewer"] == EVERYBODY
    asked = ["NULL" if sees_all else _SEEN_MODELS] + [
        f"(SELECT count(*) FROM ({part} LIMIT {FEW + 1}) c)" for one in filters for part in one.matching
    ]
    if sees_all and len(asked) == 1:
        return list(filters), parameters
    seen, *counts = (await connection.execute(text(f"SELECT {', '.join(asked)}"), parameters)).one()
    left = iter(counts)
    fitting = [one if max([0, *(next(left) for _ in one.matching)]) <= FEW else one.for_many() for one in filters]
    if sees_all:
        return fitting, parameters
    if len(seen or ()) > _SEEN_MAX:
        return [Filter(_SEES_MANY, of_model=True), *fitting], parameters
    return [Filter(_SEES_FEW, of_model=True), *fitting], parameters | {"seen": seen or []}


def _alias() -> Filter:
    named = "SELECT a.version_id FROM model_aliases a WHERE a.alias = :alias"
    return Filter(
        f"{{f}}.version_id = ANY(ARRAY({named}))",
        f"(SELECT true FROM ({named}) p WHERE p.version_id = {{f}}.version_id LIMIT 1)",
        (named,),
    )


def _word(word: str) -> Filter:
    of_versions = f"SELECT w.version_id FROM version_finding w WHERE w.words LIKE {word}"
    of_models = f"SELECT o.model_id FROM model_words o WHERE o.words LIKE {word}"
    return Filter(
        f"({{f}}.version_id = ANY(ARRAY({of_versions})) OR {{f}}.model_id = ANY(ARRAY({of_models})))",
        f"({{f}}.words LIKE {word} OR"
        f" (SELECT o.words LIKE {word} FROM model_words o WHERE o.model_id = {{f}}.model_id))",
        (of_versions, of_models),
    )


def _metric(comparison: Comparison, name: str, number: str) -> Filter:
    holds = f"{_OPERATORS[comparison.operator]} {number}"
    having = (
        "SELECT x.version_id FROM version_metrics x "
        f"WHERE md5(x.name) = md5(CAST({name} AS text)) AND x.name = {name} AND x.value {holds}"
    )
    return Filter(
        f"{{f}}.version_id = ANY(ARRAY({having}))",
        f"CAST({{f}}.metrics ->> {name} AS double precision) {holds}",
        (having,),
    )


def _literal(word: str) -> str:
    """The word with what LIKE would read otherwise escaped."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
