"""What is recorded of a step that was taken: progress in, progress out."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import EVICTED, Deployment, Health, Progress, Status, with_condition
from services.deployer.domain.placement import Shortage

_QUEUED = {
    Shortage.LEAVING: "it waits until others have left the memory that it needs",
    Shortage.FRESH: "it waits for memory: what would have to leave was loaded just now, and stays for a while",
}


def held(progress: Progress, *, read: Deployment, row: Deployment) -> Progress:
    """What of a step's progress is recorded in `row`. The step began with what was `read` of it, and somebody may have
    wished otherwise since: what befell the older wish must not delay the newer one, nor must it be lost that they
    asked for it to be loaded anew, or for other shares of the traffic."""
    if row.deleting:
        progress = replace(progress, status=Status.TERMINATING)
    if (row.generation, row.deleting) != (read.generation, read.deleting):
        progress = replace(progress, attempts=0, next_attempt_at=None)
    if row.generation == read.generation:
        return progress
    anew = {name for name, proof in row.progress.loaded.items() if not proof}
    loaded = {name: "" if name in anew else proof for name, proof in progress.loaded.items()}
    same_split = row.split_generation == read.split_generation
    handed_on = progress.traffic_routed if same_split else row.progress.traffic_routed
    return replace(progress, replicas=None, loaded=loaded, traffic_routed=handed_on)


def scaled(progress: Progress, replicas: int, why: str, now: datetime, *, reason: str = "Load") -> Progress:
    """Autoscaling made it so many replicas."""
    conditions = with_condition(
        progress.conditions,
        "Autoscaled",
        status=True,
        reason=reason,
        message=f"{replicas} replicas, by {why}",
        now=now,
    )
    return replace(progress, replicas=replicas, conditions=conditions)


def explained(progress: Progress, reason: str, message: str, now: datetime, *, acts: bool) -> Progress:
    """Autoscaling has something to say, and the replicas stay."""
    conditions = with_condition(progress.conditions, "Autoscaled", status=acts, reason=reason, message=message, now=now)
    return replace(progress, conditions=conditions)


def asleep(progress: Progress, idle_s: float, now: datetime, *, evicted: str = "", memory_bytes: float) -> Progress:
    """It is published as cold from now on, and unloaded once it has drained: nobody asked for it, or it was `evicted`,
    for the reason given. A replica takes `memory_bytes` as it is now: versions grow while they serve."""
    why = evicted or f"nobody asked for it for {idle_s:.0f} s"
    conditions = with_condition(
        progress.conditions,
        "Asleep",
        status=True,
        reason=EVICTED if evicted else "Idle",
        message=f"{why}; it is unloaded, and the next request has it loaded",
        now=now,
    )
    # What was withdrawn for want of replicas has some again, or would not be put to sleep.
    return replace(
        started(replace(progress, conditions=conditions), now),
        asleep_since=now,
        ready_replicas=0,
        health=Health.HEALTHY,
        memory_bytes=memory_bytes,
    )


def left(progress: Progress, servers: Collection[str]) -> Progress:
    """It is published without these servers from now on."""
    return replace(progress, loaded={name: proof for name, proof in progress.loaded.items() if name not in servers})


def queued(progress: Progress, why: Shortage, now: datetime) -> Progress:
    """It waits for memory. Raises MEMORY_EXHAUSTED where that is in vain."""
    if why is Shortage.EXHAUSTED:
        raise MeshError(
            Reason.MEMORY_EXHAUSTED,
            "no model server has so much memory beside what is pinned there; unpin or delete another deployment, raise "
            "INFERMESH_DEPLOYER_SERVER_MEMORY_LIMIT, or add a model server",
        )
    conditions = with_condition(
        progress.conditions, "Placed", status=False, reason=why.value, message=_QUEUED[why], now=now
    )
    return replace(progress, conditions=conditions)


def awake(progress: Progress, now: datetime) -> Progress:
    """It is loaded again."""
    conditions = with_condition(
        progress.conditions, "Asleep", status=False, reason="Asked", message="it is loaded", now=now
    )
    return replace(progress, asleep_since=None, conditions=conditions)


def routed(progress: Progress, *, done: bool, message: str, now: datetime) -> Progress:
    """The router has the traffic that was asked for, or it was given up."""
    reason = "Routed" if done else "Refused"
    conditions = with_condition(progress.conditions, "Routed", status=done, reason=reason, message=message, now=now)
    return replace(progress, traffic_routed=True, conditions=conditions)


def retired(progress: Progress, warm_until: datetime, now: datetime) -> Progress:
    """A newer version of the deployment has taken over."""
    warm_s = (warm_until - now).total_seconds()
    stays = f"it stays loaded for {warm_s:.0f} s and then sleeps" if warm_s > 0 else "it sleeps once nobody asks for it"
    conditions = with_condition(
        progress.conditions,
        "Superseded",
        status=True,
        reason="NewerVersion",
        message=f"a newer version answers for its deployment; {stays}, and is kept for a rollback",
        now=now,
    )
    return replace(progress, warm_until=warm_until, conditions=conditions)


def halted(deployment: Deployment, now: datetime) -> Progress:
    """Nothing of it is loaded, as is wished."""
    conditions = with_condition(
        deployment.progress.conditions,
        "Stopped",
        status=True,
        reason="NoReplicas",
        message="it has no replicas, so nothing of it is loaded and nobody is answered; scale it up to have it loaded",
        now=now,
    )
    return replace(
        deployment.progress,
        status=Status.ACTIVE,
        health=Health.HEALTHY,
        ready_replicas=0,
        observed_generation=deployment.generation,
        failure=None,
        attempts=0,
        next_attempt_at=None,
        asleep_since=None,
        conditions=conditions,
    )


def started(progress: Progress, now: datetime) -> Progress:
    """It has replicas, again or as ever, and may be published."""
    if progress.withdrawn_at is None and all(one.type != "Stopped" for one in progress.conditions):
        return progress
    conditions = with_condition(
        progress.conditions, "Stopped", status=False, reason="Replicas", message="it has replicas", now=now
    )
    return replace(progress, withdrawn_at=None, conditions=conditions)
