"""What to do next about a deployment in a cluster: as `domain.plan`, of pods that somebody else makes.

The operator has pods made, and takes them away; an autoscaler says how many. Left to the deployer is to prove each pod
before it is published, to hand on the traffic, and to tell what the cluster tells.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.common.errors import Reason
from services.deployer.domain import outcomes
from services.deployer.domain.cluster.objects import Told
from services.deployer.domain.deployment import Condition, Deployment, Failure, Health, Progress, Status, with_condition
from services.deployer.domain.plan import (
    BringUp,
    Forget,
    Observation,
    Rest,
    Route,
    Step,
    halting,
    health_of,
    withdrawing,
)
from services.deployer.domain.retention import Discard, Lineage, Retention, step_of_older

_COLD = "no replica is left, because nobody asked; the next request has one started"


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a deployment's cluster."""

    synced: bool = False
    """Whether anything is known at all since the deployer's start."""
    told: Told | None = None
    """What its object says; None: there is none."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Record what the cluster says."""

    progress: Progress
    awake: bool = False
    """Whether it slept until now."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Have a first replica started: somebody waits."""


def fingerprint(deployment: Deployment) -> str:
    """What a pod was proven for. How it is run is the operator's affair: another way to run it makes other pods."""
    recipe = deployment.recipe
    return hashlib.sha256(f"pod\0{recipe.artifact_digest}\0{recipe.schema!r}".encode()).hexdigest()[:32]


UNKNOWN = Sight()
ClusterStep = Step | Follow | Wake


def next_cluster_step(
    deployment: Deployment,
    *,
    observed: Observation,
    sight: Sight,
    wanted: str,
    now: datetime,
    drain_s: float,
    lineage: Lineage,
    retention: Retention,
    asked: bool,
) -> ClusterStep:
    """The one step to take. `observed`: the pods that are ready, each of which serves the version."""
    progress = deployment.progress
    if deployment.deleting:
        return _leave(deployment, sight, now, drain_s)
    if not sight.synced:
        return Rest()
    older = _older(deployment, observed, lineage, now, retention)
    if older is not None:
        return older
    if deployment.halted or (lineage.successor is not None and lineage.successor.halted):
        return withdrawing(progress, now, drain_s) or halting(deployment)
    lacking = tuple(name for name in observed if progress.loaded.get(name) != wanted)
    if lacking and (progress.next_attempt_at is None or now >= progress.next_attempt_at):
        return BringUp(lacking)
    told = sight.told if not deployment.successor else None
    after = followed(deployment, told, observed, wanted, now)
    if after != progress:
        return Follow(after, awake=progress.asleep_since is not None and after.asleep_since is None)
    if progress.asleep_since is not None and asked and not observed:
        return Wake()
    answered = progress.status is Status.ACTIVE and progress.loaded and not deployment.successor
    return Route() if answered and not progress.traffic_routed else Rest()


def followed(deployment: Deployment, told: Told | None, observed: Observation, wanted: str, now: datetime) -> Progress:
    """The progress as it follows from what the cluster says; the same where nothing is new."""
    progress = _pods(deployment.progress, told, observed, wanted)
    if told is None:
        return progress
    progress = replace(progress, conditions=_merged(progress.conditions, told.conditions))
    answers = any(progress.loaded.get(name) == wanted for name in observed)
    if deployment.wish.idle_timeout_s is not None and told.current and not observed and not told.replicas:
        if progress.loaded and progress.traffic_routed:
            return _settle(deployment, _asleep(progress, now), now)
    elif progress.asleep_since is not None and answers:
        progress = outcomes.awake(progress, now)
    complete = answers and all(progress.loaded.get(name) == wanted for name in observed)
    if complete and told.current and told.phase == "active":
        return _settle(deployment, progress, now)
    if told.current and told.phase == "failed":
        failure = Failure(_reason(told).value, told.message or "the cluster does not run it; see its conditions")
        return replace(
            progress, status=Status.FAILED, failure=failure, observed_generation=deployment.generation, attempts=0
        )
    settled = progress.status is Status.ACTIVE and progress.observed_generation == deployment.generation
    if settled or progress.attempts:
        # More or fewer replicas make it no other wish; and what failed here is tried again by its own time.
        return progress
    return replace(progress, status=Status.DEPLOYING, failure=None)


def _pods(progress: Progress, told: Told | None, observed: Observation, wanted: str) -> Progress:
    """Which pods answer. Those that are gone are forgotten, unless nothing else is left: then it stays published where
    it answered last, so that callers are told to try again and no rule loses its meaning."""
    answering = [name for name in observed if progress.loaded.get(name) == wanted]
    loaded: Mapping[str, str] = {name: progress.loaded[name] for name in observed if name in progress.loaded}
    health = health_of(len(answering), max(told.replicas if told is not None else 0, len(observed)))
    if progress.asleep_since is not None and not observed:
        health = Health.HEALTHY
    return replace(progress, loaded=loaded or progress.loaded, ready_replicas=len(answering), health=health)


def _settle(deployment: Deployment, progress: Progress, now: datetime) -> Progress:
    """The wish is carried out. What was withdrawn for want of replicas is published again."""
    progress = outcomes.started(progress, now)
    began = deployment.progress.status is not Status.ACTIVE or deployment.progress.deployed_at is None
    return replace(
        progress,
        status=Status.ACTIVE,
        observed_generation=deployment.generation,
        failure=None,
        attempts=0,
        next_attempt_at=None,
        deployed_at=now if began else progress.deployed_at,
    )


def _asleep(progress: Progress, now: datetime) -> Progress:
    if progress.asleep_since is not None:
        return progress
    conditions = with_condition(progress.conditions, "Asleep", status=True, reason="Idle", message=_COLD, now=now)
    return replace(progress, asleep_since=now, ready_replicas=0, health=Health.HEALTHY, conditions=conditions)


def _older(
    deployment: Deployment, observed: Observation, lineage: Lineage, now: datetime, retention: Retention
) -> Step | None:
    """The life of an older version: it goes with its pods, which the operator takes away."""
    if not deployment.successor:
        return None
    step = step_of_older(deployment, lineage, now, retention)
    superseded = deployment.progress.warm_until is not None
    halted = lineage.successor is not None and lineage.successor.halted
    if step is None and not observed and (superseded or halted):
        return Discard("its replicas are gone")
    return step


def _leave(deployment: Deployment, sight: Sight, now: datetime, drain_s: float) -> Step:
    """Out of the traffic, then out of the rows. Pods are the operator's to take away; a deployment stays until its
    object is gone, so that its name is free when it says so."""
    if (step := withdrawing(deployment.progress, now, drain_s)) is not None:
        return step
    # An object that does not go is another one, made since by the same name.
    gone = sight.synced and (sight.told is None or not sight.told.terminating)
    return Forget() if gone or deployment.successor else Rest()


def _merged(own: tuple[Condition, ...], told: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The deployer's conditions and the operator's, which are taken as they are."""
    by_type = {one.type: one for one in own}
    return tuple((by_type | {one.type: one for one in told}).values())


def _reason(told: Told) -> Reason:
    """The reason of a failure, in the mesh's words where the cluster's are one of them."""
    word = next((one.reason for one in told.conditions if not one.status and one.message == told.message), "")
    snake = "".join(f"_{letter}" if letter.isupper() else letter for letter in word).strip("_").upper()
    return Reason(snake) if snake in tuple(Reason) else Reason.LOAD_FAILED
