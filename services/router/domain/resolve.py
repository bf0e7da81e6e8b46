"""Where a request would go: the decision of gateways and batchers, said again so that it can be asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.common.errors import MeshError, Reason
from services.common.names import check_version
from services.router.domain.merge import ModelState
from services.router.domain.places import counted
from services.router.domain.routing import Condition
from services.router.domain.sticky import place_of, version_at

VERSION_HEADER = "x-model-version"
"""Where callers may ask for a version beside the body."""


class DecidedBy(StrEnum):
    """What decided."""

    REQUESTED = "requested"
    CONDITION = "condition"
    ONLY_VERSION = "only_version"
    STICKY = "sticky"
    CHANCE = "chance"


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a request would go, and why."""

    version: str
    """Empty where chance decides."""
    decided_by: DecidedBy
    explanation: str
    """One sentence."""
    split: Mapping[str, int]
    """The shares that gateways route by."""


def resolve(state: ModelState, *, version: str, headers: Mapping[str, str]) -> Resolution:
    """Where a request with these headers would go that asks for `version`, which may be an alias (empty: for none).

    Raises VERSION_NOT_SERVED where that is not ready, as the request itself would be refused.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    asked, where = version, "the request"
    if not asked:
        asked, where = sent.get(VERSION_HEADER, ""), f"the header {VERSION_HEADER}"
    chosen = (
        (_requested(state, asked, where) if asked else None)
        or _by_condition(state, sent)
        or _alone(state)
        or _sticky(state, sent)
        or _chance(state)
    )
    named, decided_by, explanation = chosen
    return Resolution(named, decided_by, explanation, counted(state.routes.shares))


_Chosen = tuple[str, DecidedBy, str]


def _requested(state: ModelState, asked: str, where: str) -> _Chosen:
    known = state.serving.aliases
    version = known.get(asked) or _as_version(asked)
    if version not in state.routes.versions:
        there = ", ".join((*state.routes.versions, *known))
        raise MeshError(
            Reason.VERSION_NOT_SERVED,
            f"{where} asks for {asked!r}, which is neither a version that is ready nor an alias of one; "
            f"there are {there}",
            metadata={"model_name": state.routes.model_name, "version": version},
        )
    by_name = f"{where} asks for {asked}, an alias of {version}" if asked in known else f"{where} asks for {version}"
    return version, DecidedBy.REQUESTED, f"{by_name}; what a request asks for comes before all rules"


def _as_version(asked: str) -> str:
    try:
        return check_version(asked)
    except MeshError:
        return asked


def _by_condition(state: ModelState, sent: Mapping[str, str]) -> _Chosen | None:
    for condition in state.routes.conditions:
        value = sent.get(condition.header)
        matched = _matched(condition, value) if value is not None else None
        if matched is not None:
            how = "begins with" if condition.prefix else "is"
            said = f"the header {condition.header} {how} {matched!r}, for which a condition names {condition.version}"
            return condition.version, DecidedBy.CONDITION, said
    return None


def _matched(condition: Condition, value: str) -> str | None:
    """The value of the condition that matches."""
    for one in condition.values:
        if value == one or (condition.prefix and value.startswith(one)):
            return one
    return None


def _alone(state: ModelState) -> _Chosen | None:
    versions = {share.version for share in state.routes.shares}
    if len(versions) > 1:
        return None
    (version,) = versions
    return version, DecidedBy.ONLY_VERSION, f"{version} has all of the traffic"


def _sticky(state: ModelState, sent: Mapping[str, str]) -> _Chosen | None:
    header = state.routes.sticky_header
    # Gateways take an empty value for none, for that is what clients send who have none.
    if not header or not sent.get(header):
        return None
    place = place_of(state.routes.model_name, sent[header])
    version = version_at(state.routes.shares, place)
    first, last = _run_at(state, place)
    has = f"the places {first} to {last}" if last > first else f"the place {first}"
    said = f"the header {header} with the value {sent[header]!r} has place {place}, and {version} has {has}"
    return version, DecidedBy.STICKY, said


def _run_at(state: ModelState, place: int) -> tuple[int, int]:
    """The first and the last place of the run around `place`."""
    first = 0
    for share in state.routes.shares:
        if place < first + share.percent:
            return first, first + share.percent - 1
        first += share.percent
    raise ValueError(f"nobody has place {place}")


def _chance(state: ModelState) -> _Chosen:
    header = state.routes.sticky_header
    odds = ", ".join(f"{version} {percent} %" for version, percent in counted(state.routes.shares).items())
    why = f"the request has no header {header}, so chance decides" if header else "chance decides"
    return "", DecidedBy.CHANCE, f"{why}: {odds}"
