"""What a call may ask of a model's traffic, and what that makes of what holds."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_version
from services.router.domain.conditions import ConditionWish, check_conditions_ready, checked_conditions
from services.router.domain.headers import check_header
from services.router.domain.rules import STICKY_HEADER_DEFAULT, VERSIONS_MAX, Rule, Split, Strategy, with_weights
from services.router.domain.shadows import Shadow, check_shadows_ready, checked_shadows

CLEARABLE = ("conditions", "shadows")
_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class SplitWish:
    """What a call asks for; empty fields stay as they are."""

    weights: Mapping[str, int] = field(default_factory=dict)
    strategy: str = ""
    sticky_header: str = ""
    conditions: tuple[ConditionWish, ...] = ()
    """Replaces the list there was."""
    shadows: tuple[Shadow, ...] = ()
    """Replaces the list there was."""
    clear: tuple[str, ...] = ()
    """Lists to empty, of `CLEARABLE`."""

    @property
    def of_shares(self) -> bool:
        """Whether it asks for what a rollout decides while it runs."""
        return bool(self.weights or self.strategy or self.sticky_header)


def wanted_split(wish: SplitWish, before: Split) -> Split:
    """The split that `wish` makes of `before`. Raises WEIGHTS_INVALID, INVALID_FIELD or NOT_IMPLEMENTED."""
    if not (wish.of_shares or wish.conditions or wish.shadows or wish.clear):
        raise MeshError(
            Reason.WEIGHTS_INVALID,
            "traffic_split is empty; give whole percentages by version that add up to 100, "
            'for instance {"v1.0.0": 90, "v1.1.0": 10}, or something else to change',
        )
    split = replace(
        before,
        conditions=before.conditions if _kept("conditions", wish) else (),
        shadows=before.shadows if _kept("shadows", wish) else (),
    )
    if wish.conditions:
        split = replace(split, conditions=checked_conditions(wish.conditions))
    if wish.shadows:
        split = replace(split, shadows=checked_shadows(wish.shadows))
    strategy = _strategy(wish.strategy) if wish.strategy else before.strategy
    split = replace(split, strategy=strategy, sticky_header=_sticky_header(wish.sticky_header, strategy, before))
    return with_weights(split, checked_weights(wish.weights)) if wish.weights else split


def check_wish_ready(wish: SplitWish, after: Split, ready: Collection[str], model_name: str) -> None:
    """Raises VERSION_NOT_DEPLOYED where something that `wish` names is not ready. What it leaves as it was is not
    looked at: it may wait for its version."""
    if wish.weights:
        check_ready(checked_weights(wish.weights), ready, model_name)
    if wish.conditions:
        check_conditions_ready(after.conditions, ready, model_name)
    if wish.shadows:
        check_shadows_ready(after.shadows, ready, model_name)


def check_free(rule: Rule | None, what: str) -> None:
    """Raises ROLLOUT_IN_PROGRESS where a rollout decides the shares of the model."""
    if rule is not None and rule.governing:
        raise MeshError(
            Reason.ROLLOUT_IN_PROGRESS,
            f"{what} of model {rule.model_name!r} cannot be changed while the rollout {rule.governing!r} decides them; "
            "end it first: AbortCanary or PromoteCanary for a canary, StopAbTest or ConcludeAbTest for an A/B test, or "
            "RollBack for either",
            metadata={"model_name": rule.model_name, "rollout": rule.governing},
        )


def checked_weights(weights: Mapping[str, int]) -> Mapping[str, int]:
    """`weights` by canonical version. Raises WEIGHTS_INVALID or INVALID_FIELD."""
    if len(weights) > VERSIONS_MAX:
        raise invalid("traffic_split", f"{len(weights)} versions", f"at most {VERSIONS_MAX} versions")
    checked: dict[str, int] = {}
    for text, weight in weights.items():
        version = check_version(text, f"traffic_split[{text!r}]")
        if version in checked:
            raise invalid("traffic_split", text, f"each version once; it names {version} twice")
        checked[version] = weight
    if sum(checked.values()) != 100 or any(not 0 <= weight <= 100 for weight in checked.values()):
        shown = str(dict(weights))[:_SHOWN_MAX]
        raise MeshError(
            Reason.WEIGHTS_INVALID,
            f"traffic_split is {shown}, which adds up to {sum(checked.values())}; "
            "give whole percentages from 0 to 100 that add up to 100",
        )
    return checked


def check_ready(weights: Mapping[str, int], ready: Collection[str], model_name: str) -> None:
    """Raises VERSION_NOT_DEPLOYED where a version of `weights` is not ready; also where its share is 0, because a name
    that nobody knows is a mistake."""
    missing = [version for version in weights if version not in ready]
    if missing:
        raise MeshError(
            Reason.VERSION_NOT_DEPLOYED,
            f"traffic_split names {', '.join(missing)}, of which no deployment of model {model_name!r} is ready; "
            f"ready are {', '.join(ready)}; deploy it and wait until it is active",
            metadata={"model_name": model_name, "version": missing[0]},
        )


def request_digest(action: str, model_name: str, wish: SplitWish) -> str:
    """Equal for calls that ask for the same."""
    asked: list[object] = [action, model_name, sorted(wish.weights.items()), wish.strategy, wish.sticky_header]
    if wish.conditions or wish.shadows or wish.clear:
        asked += [
            [asdict(condition) for condition in wish.conditions],
            [asdict(shadow) for shadow in wish.shadows],
            sorted(wish.clear),
        ]
    return hashlib.sha256(json.dumps(asked, separators=(",", ":")).encode()).hexdigest()


def _kept(name: str, wish: SplitWish) -> bool:
    """Whether the list of that name is not to be emptied. Raises INVALID_FIELD where `clear` contradicts itself."""
    unknown = [one for one in wish.clear if one not in CLEARABLE]
    if unknown:
        raise invalid("clear", unknown[0], " or ".join(f'"{one}"' for one in CLEARABLE))
    if name not in wish.clear:
        return True
    if {"conditions": wish.conditions, "shadows": wish.shadows}[name]:
        raise invalid("clear", name, f"a list that is not sent; {name} replaces what there was by itself")
    return False


def _sticky_header(asked: str, strategy: Strategy, before: Split) -> str:
    if strategy is not Strategy.STICKY:
        if asked:
            raise invalid("sticky_key_header", asked, 'a header only with the routing_strategy "sticky"')
        return ""
    if asked:
        return check_header(asked, "sticky_key_header")
    return before.sticky_header or STICKY_HEADER_DEFAULT


def _strategy(text: str) -> Strategy:
    if text == "round_robin":
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            'routing_strategy "round_robin" is not built yet; "random" gives the same shares over many requests',
        )
    if text not in tuple(Strategy):
        raise invalid("routing_strategy", text, ", ".join((*Strategy, "round_robin")))
    return Strategy(text)
