"""Requests that get a version of their own, whatever the shares: by user, region, cohort, team or any header."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_version
from services.router.domain.headers import check_header
from services.router.domain.routing import Condition

CONDITIONS_MAX = 32
VALUES_MAX = 1000
VALUE_LENGTH_MAX = 256
EXACT, PREFIX = "exact", "prefix"
TEAM_HEADER = "x-infermesh-team"
"""Set by the gateway once it has verified the caller; what callers send under this name is removed."""
_HEADERS = {"user_id": "x-user-id", "region": "x-region", "cohort": "x-cohort", "team": TEAM_HEADER}
_BY_HEADER = "header:"
_ATTRIBUTES = f"one of {', '.join(_HEADERS)} and {_BY_HEADER}<name>"
_SHOWN_VALUES = 3


@dataclass(frozen=True, slots=True)
class ConditionWish:
    """A condition as a caller asks for it, unchecked."""

    attribute: str
    values: tuple[str, ...]
    match: str
    version: str


@dataclass(frozen=True, slots=True)
class RouteCondition:
    """Requests whose attribute has one of the values get the version."""

    attribute: str
    """"user_id", "region", "cohort", "team" or "header:<name>"."""
    values: tuple[str, ...]
    """Any of them matches; at least one."""
    version: str
    prefix: bool = False
    """Whether a value that begins with one of them matches too."""

    @property
    def header(self) -> str:
        """The header that is looked at, in lower case."""
        return _HEADERS.get(self.attribute) or self.attribute.removeprefix(_BY_HEADER)

    def __str__(self) -> str:
        shown = ", ".join(f'"{value}"' for value in self.values[:_SHOWN_VALUES])
        more = f" or {len(self.values) - _SHOWN_VALUES} more" if len(self.values) > _SHOWN_VALUES else ""
        return f"{self.attribute} {'begins with' if self.prefix else 'is'} {shown}{more} → {self.version}"


def checked_conditions(wishes: Sequence[ConditionWish]) -> tuple[RouteCondition, ...]:
    """`wishes`, each version canonical. Raises INVALID_FIELD that names a field like `conditions[2].values[0]`."""
    if len(wishes) > CONDITIONS_MAX:
        raise invalid("conditions", f"{len(wishes)} conditions", f"at most {CONDITIONS_MAX}")
    return tuple(_checked(wish, f"conditions[{place}]") for place, wish in enumerate(wishes))


def check_conditions_ready(conditions: Sequence[RouteCondition], ready: Collection[str], model_name: str) -> None:
    """Raises VERSION_NOT_DEPLOYED where the version of one is not ready."""
    for place, condition in enumerate(conditions):
        if condition.version not in ready:
            raise MeshError(
                Reason.VERSION_NOT_DEPLOYED,
                f"conditions[{place}].version is {condition.version}, of which no deployment of model {model_name!r} "
                f"is ready; ready are {', '.join(ready)}; deploy it and wait until it is active",
                metadata={"model_name": model_name, "version": condition.version, "field": f"conditions[{place}]"},
            )


def routed(conditions: Sequence[RouteCondition], ready: Collection[str]) -> tuple[Condition, ...]:
    """What gateways are told: those whose version is ready, in their order."""
    return tuple(
        Condition(header=one.header, values=one.values, version=one.version, prefix=one.prefix)
        for one in conditions
        if one.version in ready
    )


def _checked(wish: ConditionWish, field: str) -> RouteCondition:
    if wish.attribute not in _HEADERS:
        if not wish.attribute.startswith(_BY_HEADER):
            raise invalid(f"{field}.attribute", wish.attribute, _ATTRIBUTES)
        check_header(wish.attribute.removeprefix(_BY_HEADER), f"{field}.attribute")
    if wish.match not in ("", EXACT, PREFIX):
        raise invalid(f"{field}.match", wish.match, f'"{EXACT}" or "{PREFIX}"')
    if not 1 <= len(wish.values) <= VALUES_MAX:
        raise invalid(f"{field}.values", f"{len(wish.values)} values", f"1 to {VALUES_MAX}")
    for place, value in enumerate(wish.values):
        if not 1 <= len(value) <= VALUE_LENGTH_MAX or not value.isprintable() or value != value.strip():
            raise invalid(
                f"{field}.values[{place}]",
                value,
                f"1 to {VALUE_LENGTH_MAX} printable characters without spaces at the ends, as a header can have",
            )
    return RouteCondition(
        attribute=wish.attribute,
        values=tuple(dict.fromkeys(wish.values)),
        version=check_version(wish.version, f"{field}.version"),
        prefix=wish.match == PREFIX,
    )
