"""The conditions of a search, each in a form that fits how many versions it leaves.

PostgreSQL cannot know how many versions have `accuracy > 0.9` or a word in their card, and a plan for few is a bad one
for many and the other way round. So each such condition is counted first, up to a bound, which costs a millisecond. One
that leaves few is read first, as an array, and the search begins there. One that leaves many is tried on one version
after the other, in the order asked for, until the page is full. What is dear to find, the models that a team sees and
the versions that lineage leads to, is found once, before, and is bound as a list where it is not too long for that.
`{f}` is the row of `version_finding` that a condition is about.
"""
# ruff: noqa: S608 - made of this module's own text

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.registry.adapters.postgres_lineage import made_from
from services.registry.adapters.queries import SEEN
from services.registry.adapters.rows import Parameters
from services.registry.domain.access import EVERYBODY
from services.registry.domain.search import Comparison, Search

FEW = 1000
"""Versions, or models, that a search may begin at."""
_OPERATORS = {"<": "<", "<=": "<=", "=": "=", "!=": "<>", ">=": ">=", ">": ">"}
_LETTERS = re.compile(r"[^\W_]+")
LISTED_MAX = 5000
"""Ids that go into a query as they are. They come and go as the text of an array: it is made and read by nobody."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition, and the form to use where it leaves many.

    That is so where one of the SELECTs of `matching` gives more than `FEW` rows, or where that of `listing`, whose ids
    the condition takes as the parameter named there, gives more than can be listed.
    """

    condition: str
    many: str = ""
    matching: tuple[str, ...] = ()
    listing: tuple[str, str] | None = None
    """The name of the parameter, and the SELECT."""
    of_model: bool = False
    """Whether it holds for all versions of a model or for none."""

    def for_many(self) -> "Filter":
        """The same in the other form."""
        return replace(self, condition=self.many)


def filters_of(search: Search, viewer: str) -> tuple[list[Filter], Parameters]:
    """The filters that a search needs, and their parameters."""
    parameters: Parameters = {"viewer": viewer}
    found: list[Filter] = [] if viewer == EVERYBODY else [_SEES]
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
        found.append(_word(f"lower(:word{number})", indexed=_has_trigram(word)))
        parameters[f"word{number}"] = f"%{_literal(word)}%"
    for number, comparison in enumerate(search.metrics):
        found.append(_metric(comparison, f":metric{number}", f"CAST(:number{number} AS double precision)"))
        parameters |= {f"metric{number}": comparison.metric, f"number{number}": comparison.number}
    for number, node in enumerate(search.lineage):
        found.append(_made(f"made{number}", made_from(f"node{number}", sees_all=viewer == EVERYBODY)))
        parameters[f"node{number}"] = node.key
    return found, parameters


async def conditions_of(
    connection: AsyncConnection, filters: Sequence[Filter], parameters: Parameters
) -> tuple[list[Filter], Parameters]:
    """Each filter in the form to use, and the parameters that they need."""
    counted = [_count(part) for one in filters for part in one.matching]
    listed = [_list(one.listing[1]) for one in filters if one.listing]
    if not counted and not listed:
        return list(filters), parameters
    answers = (await connection.execute(text(f"SELECT {', '.join([*counted, *listed])}"), parameters)).one()
    counts, lists = iter(answers[: len(counted)]), iter(answers[len(counted) :])
    fitting, bound = [], dict(parameters)
    for one in filters:
        few = max([0, *(next(counts) for _ in one.matching)]) <= FEW
        if one.listing:
            bound[one.listing[0]] = next(lists)
            few = few and bound[one.listing[0]] is not None
        fitting.append(one if few else one.for_many())
    return fitting, bound


def _count(part: str) -> str:
    return f"(SELECT count(*) FROM ({part} LIMIT {FEW + 1}) c)"


def _list(part: str) -> str:
    """The ids as the text of an array; NULL where they are too many."""
    ids = f"CASE WHEN count(*) <= {LISTED_MAX} THEN coalesce(CAST(array_agg(c.id) AS text), '{{}}') END"
    return f"(SELECT {ids} FROM ({part} LIMIT {LISTED_MAX + 1}) c)"


_SEES = Filter(
    "{f}.model_id = ANY(CAST(:seen AS uuid[]))",
    f"(SELECT true FROM models m WHERE m.id = {{f}}.model_id AND {SEEN})",
    listing=("seen", f"SELECT m.id FROM models m WHERE {SEEN}"),
    of_model=True,
)


def _made(name: str, ids: str) -> Filter:
    return Filter(
        f"{{f}}.version_id = ANY(CAST(:{name} AS uuid[]))", f"{{f}}.version_id = ANY(ARRAY({ids}))", listing=(name, ids)
    )


def _alias() -> Filter:
    named = "SELECT a.version_id FROM model_aliases a WHERE a.alias = :alias"
    return Filter(
        f"{{f}}.version_id = ANY(ARRAY({named}))",
        f"(SELECT true FROM ({named}) p WHERE p.version_id = {{f}}.version_id LIMIT 1)",
        (named,),
    )


def _has_trigram(word: str) -> bool:
    """Whether the index of words, which knows where three letters in a row stand, helps to find it. Where it does not,
    PostgreSQL would read all of the index and then all of the table."""
    return max(map(len, _LETTERS.findall(word)), default=0) >= 3


def _word(word: str, *, indexed: bool) -> Filter:
    # Compared as it stands in no index, so that it is looked for in the table, and no further than there are enough.
    looked_for = f"LIKE {word}" if indexed else f'COLLATE "C" LIKE {word}'
    of_versions = f"SELECT w.version_id FROM version_finding w WHERE w.words {looked_for}"
    of_models = f"SELECT o.model_id FROM model_words o WHERE o.words {looked_for}"
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
