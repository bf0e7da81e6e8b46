"""What a search may ask for."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.errors import invalid
from services.registry.domain.lineage import Node
from services.registry.domain.metadata import check_tags
from services.registry.domain.version import FRAMEWORKS, Stage, Version
from services.registry.domain.violations import check_texts

_WORDS_MAX = 16
_COMPARISONS_MAX = 16
_COMPARISON = re.compile(
    r"\s*(?P<name>[^\s<>=!](?:[^<>=!]*[^\s<>=!])?)\s*(?P<operator><=|>=|!=|=|<|>)\s*(?P<number>[-+.\w]+)\s*"
)
_ORDERS = ("name", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Comparison:
    """That a metric is above, below or equal to a number. `operator` is one of < <= = != >= >."""

    metric: str
    operator: str
    number: float


@dataclass(frozen=True, slots=True)
class Order:
    """By what versions are ordered: "name", "created_at", "updated_at" or a metric of the name `metric`."""

    by: str = "name"
    metric: str = ""
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """What versions must be like; everything that is given must hold."""

    words: tuple[str, ...] = ()
    prefix: str = ""
    tags: tuple[str, ...] = ()
    framework: str = ""
    stage: str = ""
    of_team: str = ""
    alias: str = ""
    metrics: tuple[Comparison, ...] = ()
    lineage: tuple[Node, ...] = ()
    """What it was made from, directly or through others."""
    latest_only: bool = False
    order: Order = field(default_factory=Order)


@dataclass(frozen=True, slots=True)
class Found:
    """A version that was found, and where it stands in the order asked for."""

    version: Version
    position: tuple[str, ...]


def check_search(search: Search) -> Search:
    """`search` itself. Raises INVALID_FIELD where it asks for what cannot be."""
    if search.framework and search.framework not in FRAMEWORKS:
        raise invalid("framework", search.framework, "empty or one of " + ", ".join(FRAMEWORKS))
    if search.stage and search.stage not in tuple(Stage):
        raise invalid("stage", search.stage, "empty or one of " + ", ".join(Stage))
    if len(search.words) > _WORDS_MAX or any("\0" in word for word in search.words):
        raise invalid("query", " ".join(search.words), f"at most {_WORDS_MAX} words")
    check_tags(search.tags, "tags")
    check_texts(name_prefix=search.prefix, team=search.of_team, alias=search.alias, order_by=search.order.metric)
    return search


def parse_comparisons(texts: Sequence[str]) -> tuple[Comparison, ...]:
    """Reads comparisons such as "accuracy > 0.9". Raises INVALID_FIELD naming the one that cannot be read."""
    if len(texts) > _COMPARISONS_MAX:
        raise invalid("metrics", f"{len(texts)} comparisons", f"at most {_COMPARISONS_MAX}")
    return tuple(_comparison(text, f"metrics[{number}]") for number, text in enumerate(texts))


def parse_order(text: str) -> Order:
    """Reads "name", "created_at", "updated_at" or "metric:<name>", with " desc" behind it or not."""
    by, _, direction = text.strip().partition(" ")
    if text.startswith("metric:"):
        descending = text.endswith(" desc")
        metric = text.removeprefix("metric:").removesuffix(" desc").strip()
        if metric:
            return Order("metric", metric, descending)
    elif (by or "name") in _ORDERS and direction.strip() in ("", "asc", "desc"):
        return Order(by or "name", descending=direction.strip() == "desc")
    allowed = '"name", "created_at", "updated_at" or "metric:<name>", with " desc" behind it for the opposite order'
    raise invalid("order_by", text, allowed)


def _comparison(text: str, named: str) -> Comparison:
    match = _COMPARISON.fullmatch(text) if len(text) <= 512 else None
    try:
        number = float(match["number"]) if match is not None else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number) or "\0" in text:
        raise invalid(named, text, 'a metric, one of < <= = != >= > and a number, for instance "accuracy > 0.9"')
    return Comparison(match["name"], match["operator"], number)
