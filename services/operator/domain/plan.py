"""What is to be done for versions that are no longer wished, and for a model deployment that is being removed.

A version that another one replaces goes once that one answers in full and the time it is baked for is over: first its
Service, with which it leaves the traffic, then, once whoever routes has had time to follow, its pods. Each step is
read off what is there, so whoever takes over in the middle goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.body import Body, text, whole
from services.common.kubernetes.conditions import TRUE, find
from services.common.kubernetes.names import ROUTED
from services.operator.domain.names import VERSION, label_value
from services.operator.domain.observed import Observed, Workload, moment
from services.operator.domain.spec import ModelDeployment

_WITHDRAWAL_PATIENCE_S = 60
"""How much longer than `drain_s` a removal waits for the deployer to say that nothing is routed any more."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """What becomes of the versions that are not wished."""

    withdraw: Sequence[Workload] = ()
    """Those that leave the traffic now."""
    remove: Sequence[Workload] = ()
    """Those that have drained."""
    look_again_s: float | None = None
    """When something else falls due; None: not by time alone."""


def retire(wish: ModelDeployment, seen: Observed, *, body: Body, now: datetime, drain_s: float) -> Retirement:
    """What becomes of the versions that are not wished. `body`: the object that wishes."""
    target = seen.workloads.get(label_value(wish.version))
    others = [one for label, one in sorted(seen.workloads.items()) if label != label_value(wish.version)]
    draining = [one for one in others if one.draining_since is not None]
    kept = [one for one in others if one.draining_since is None]
    waits = [
        one.draining_since + timedelta(seconds=drain_s) - now for one in draining if one.draining_since is not None
    ]
    remove = [one for one, left in zip(draining, waits, strict=True) if left <= timedelta(0)]
    due = [left for left in waits if left > timedelta(0)]
    withdraw: list[Workload] = []
    if kept and _takes_over(wish, target) and _has_traffic(wish, body):
        since = target.answered_since if target is not None else None
        baked = (since or now) + timedelta(seconds=wish.serving.bake_time_s) - now
        if baked <= timedelta(0):
            withdraw = kept
        else:
            due.append(baked)
    return Retirement(withdraw, remove, min(due).total_seconds() if due else None)


def _takes_over(wish: ModelDeployment, target: Workload | None) -> bool:
    """Whether the version that is wished answers in full; one of which nothing shall be loaded does so by not
    answering."""
    if target is None or not target.complete:
        return False
    return (
        target.ready > 0 or wish.resources.replicas == 0 or (wish.autoscaling is not None and wish.autoscaling.to_zero)
    )


def _has_traffic(wish: ModelDeployment, body: Body) -> bool:
    """Whether the wish as it is now is sent what the old versions were sent, as the deployer says. Where no deployer
    follows this cluster nobody says so, and that it answers must do."""
    routed = find(body, ROUTED)
    if not routed or wish.resources.replicas == 0:
        return True
    told = whole(routed, "observedGeneration") >= whole(body, "metadata", "generation")
    return told and text(routed, "status") == TRUE


@dataclass(frozen=True, slots=True)
class Removal:
    """How far a model deployment is that is being removed."""

    withdraw: Sequence[str]
    """Services to delete, by name."""
    done: bool
    """Whether it has drained, and its pods may go."""
    look_again_s: float | None


def remove(body: Body, seen: Observed, *, now: datetime, drain_s: float) -> Removal:
    """What becomes of a model deployment that was deleted."""
    services = [name for kind, name in seen.objects if kind == "Service"]
    since = moment(text(body, "metadata", "deletionTimestamp")) or now
    answering = any(one.ready for one in seen.workloads.values())
    routed = text(find(body, ROUTED), "status") == TRUE
    patience_s = drain_s + _WITHDRAWAL_PATIENCE_S if routed else drain_s
    left_s = (since + timedelta(seconds=patience_s) - now).total_seconds()
    # What does not answer has nothing to finish.
    done = not answering or left_s <= 0
    return Removal(services, done, None if done else left_s)


def of_version(seen: Observed, workload: Workload) -> Sequence[tuple[str, str]]:
    """Kind and name of all that there is for a version alone, the Deployment last."""
    labelled = [key for key, body in seen.objects.items() if _version(body) == workload.version_label]
    return sorted(labelled, key=lambda key: (key[0] == "Deployment", key))


def _version(body: Body) -> str:
    return text(body, "metadata", "labels", VERSION)


def replicas_now(wish: ModelDeployment, seen: Observed) -> tuple[int, bool]:
    """How many replicas the wished version's Deployment says, and whether something else decides that: an autoscaler's
    number is told again as it is, since a field that is no longer applied would fall back to 1."""
    if wish.autoscaling is None:
        return wish.resources.replicas, False
    there = seen.workloads.get(label_value(wish.version))
    return (wish.replicas_first if there is None else there.replicas), True
