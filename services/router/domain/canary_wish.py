"""What a caller may ask of a canary."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite

from services.common.errors import invalid
from services.router.domain.canary import (
    DURATION_MAX_S,
    HOLD_DEFAULT_S,
    STAGES_DEFAULT,
    STAGES_MAX,
    CanaryConfig,
    Stage,
)
from services.router.domain.criteria import DEFAULT_CRITERIA, SuccessCriteria
from services.router.domain.criteria_checks import check_criteria

_FIELD = "canary_config"
_MINUTES_MAX = DURATION_MAX_S / 60


@dataclass(frozen=True, slots=True)
class StageWish:
    """A stage as it was sent."""

    percent: int
    duration_minutes: float


@dataclass(frozen=True, slots=True)
class CanaryWish:
    """A canary as it was sent."""

    stages: Sequence[StageWish] = ()
    criteria: SuccessCriteria | None = None
    hold_minutes_max: float = 0.0


def checked_config(wish: CanaryWish) -> CanaryConfig:
    """The canary that is asked for, with what was left out. Raises INVALID_FIELD that names the field, such as
    `canary_config.stages[1].percent`."""
    hold_minutes = wish.hold_minutes_max
    if not (isfinite(hold_minutes) and 0 <= hold_minutes <= _MINUTES_MAX):
        raise invalid(f"{_FIELD}.hold_minutes_max", hold_minutes, f"above 0 to {_MINUTES_MAX:g}, or 0 for 1440")
    return CanaryConfig(
        criteria=_checked_criteria(wish.criteria),
        stages=_checked_stages(wish.stages) if wish.stages else STAGES_DEFAULT,
        hold_s=hold_minutes * 60 or HOLD_DEFAULT_S,
    )


def canary_digest(model_name: str, deployment_name: str, wish: CanaryWish, *, beside: str) -> str:
    """Equal for calls that ask for the same; `beside` is the digest of what else is asked of the traffic."""
    asked = ["canary", model_name, deployment_name, asdict(wish), beside]
    return hashlib.sha256(json.dumps(asked, separators=(",", ":")).encode()).hexdigest()


def _checked_criteria(criteria: SuccessCriteria | None) -> SuccessCriteria:
    if criteria is None:
        return DEFAULT_CRITERIA
    if not criteria.limits:
        # Only how many requests it takes was asked for.
        criteria = replace(criteria, error_rate_max=DEFAULT_CRITERIA.error_rate_max)
    return check_criteria(criteria)


def _checked_stages(wishes: Sequence[StageWish]) -> tuple[Stage, ...]:
    if len(wishes) > STAGES_MAX:
        raise invalid(f"{_FIELD}.stages", f"{len(wishes)} stages", f"at most {STAGES_MAX}")
    before = 0
    for place, stage in enumerate(wishes):
        field = f"{_FIELD}.stages[{place}]"
        if not before < stage.percent <= 100:
            raise invalid(
                f"{field}.percent", stage.percent, f"{before + 1} to 100; percentages grow from stage to stage"
            )
        minutes = stage.duration_minutes
        if not (isfinite(minutes) and 0 <= minutes <= _MINUTES_MAX):
            raise invalid(f"{field}.duration_minutes", minutes, f"0 to {_MINUTES_MAX:g}")
        before = stage.percent
    if before != 100:
        raise invalid(f"{_FIELD}.stages[{len(wishes) - 1}].percent", before, "100 for the last stage")
    return tuple(Stage(stage.percent, stage.duration_minutes * 60) for stage in wishes)
