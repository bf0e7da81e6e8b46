"""Versions that get copies of requests, whose answers nobody waits for."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_version

SHADOWS_MAX = 4
TOP_K_MAX = 100
METHODS = ("", "label", "top_k", "tolerance")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the answer of a copy is compared with the caller's."""

    method: str = ""
    """One of `METHODS`; empty: "label" where both versions have classes, else "tolerance"."""
    top_k: int = 5
    """For "top_k": how many classes count. 1 to 100."""
    absolute_tolerance: float = 1e-6
    """For "tolerance": numbers a (the caller's) and b are near where |a - b| is at most this plus the relative one
    times |a|."""
    relative_tolerance: float = 1e-3


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets copies."""

    version: str
    percent: int = 100
    """How much of the traffic is copied; 1 to 100."""
    comparison: Comparison = field(default_factory=Comparison)

    def __str__(self) -> str:
        return f"{self.version} gets copies of {self.percent} % of the requests"


def checked_shadows(wishes: Sequence[Shadow]) -> tuple[Shadow, ...]:
    """`wishes`, each version canonical. Raises INVALID_FIELD that names the field, such as `shadows[1].percent`."""
    if len(wishes) > SHADOWS_MAX:
        raise invalid("shadows", f"{len(wishes)} shadows", f"at most {SHADOWS_MAX}")
    checked: dict[str, Shadow] = {}
    for place, wish in enumerate(wishes):
        shadow = _checked(wish, f"shadows[{place}]")
        if shadow.version in checked:
            raise invalid(f"shadows[{place}].version", wish.version, "each version once")
        checked[shadow.version] = shadow
    return tuple(checked.values())


def check_shadows_ready(shadows: Sequence[Shadow], ready: Collection[str], model_name: str) -> None:
    """Raises VERSION_NOT_DEPLOYED where the version of one is not ready."""
    for place, shadow in enumerate(shadows):
        if shadow.version not in ready:
            raise MeshError(
                Reason.VERSION_NOT_DEPLOYED,
                f"shadows[{place}].version is {shadow.version}, of which no deployment of model {model_name!r} is "
                f"ready; ready are {', '.join(ready)}; deploy it and wait until it is active",
                metadata={"model_name": model_name, "version": shadow.version, "field": f"shadows[{place}]"},
            )


def _checked(wish: Shadow, field_: str) -> Shadow:
    if not 1 <= wish.percent <= 100:
        raise invalid(f"{field_}.percent", wish.percent, "1 to 100, or 0 for 100")
    comparison = wish.comparison
    if comparison.method not in METHODS:
        raise invalid(f"{field_}.comparison.method", comparison.method, '"label", "top_k" or "tolerance"')
    if not 1 <= comparison.top_k <= TOP_K_MAX:
        raise invalid(f"{field_}.comparison.top_k", comparison.top_k, f"1 to {TOP_K_MAX}, or 0 for 5")
    tolerances = {
        "absolute_tolerance": comparison.absolute_tolerance,
        "relative_tolerance": comparison.relative_tolerance,
    }
    for name, value in tolerances.items():
        if not (math.isfinite(value) and value >= 0):
            raise invalid(f"{field_}.comparison.{name}", value, "0 or more")
    return Shadow(check_version(wish.version, f"{field_}.version"), wish.percent, comparison)
