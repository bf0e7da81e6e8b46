"""Conditions: what is known about each step, with a reason for programs and a next step for people."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.common.body import Body, items, table, text

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
MESSAGE_LENGTH_MAX = 2000


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known about one step. `status`: True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str


def condition(kind: str, holds: bool | None, reason: str, message: str) -> Condition:
    """A condition; None: it is not known."""
    status = UNKNOWN if holds is None else TRUE if holds else FALSE
    return Condition(kind, status, reason, message[:MESSAGE_LENGTH_MAX])


def written(conditions: Iterable[Condition], before: Body, *, generation: int, now: str) -> list[Mapping[str, object]]:
    """Conditions as they are stored over an object `before`. The time of a transition moves only when its status
    does."""
    old = {text(one, "type"): one for one in items(before, "status", "conditions")}
    return [
        {
            "type": one.type,
            "status": one.status,
            "observedGeneration": generation,
            "lastTransitionTime": _since(old.get(one.type), one.status) or now,
            "reason": one.reason,
            "message": one.message,
        }
        for one in conditions
    ]


def find(body: Body, kind: str) -> Body:
    """The condition of that type of any object; empty where it has none."""
    for one in items(body, "status", "conditions"):
        if text(one, "type") == kind:
            return table(one)
    return {}


def _since(before: object, status: str) -> str:
    return text(before, "lastTransitionTime") if text(before, "status") == status else ""
