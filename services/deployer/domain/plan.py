"""What to do next about one deployment: a pure function of what is wished, what was reached and what is observed.

It is level-triggered: it never asks what happened, only how things stand, so a crash anywhere resumes and an event that
was missed does no harm. Each step is safe to repeat.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.errors import Reason
from services.deployer.domain.berth import Berth
from services.deployer.domain.deployment import Deployment, Health, Progress, Status
from services.deployer.domain.placement import Shortage
from services.deployer.domain.retention import Discard, Lineage, Retention, Retire, step_of_older

ATTEMPTS_MAX = 3
"""Failed loads of a wish that never answered, before it rests until someone changes or restarts it."""
TRANSIENT = frozenset({Reason.DEPENDENCY_UNAVAILABLE, Reason.DEADLINE_TOO_SHORT, Reason.SHUTTING_DOWN})
"""Failures of a neighbour, not of the deployment: tried again for as long as it takes."""
PERMANENT = frozenset(
    {
        Reason.MODEL_NOT_FOUND,
        Reason.VERSION_NOT_FOUND,
        Reason.ARTIFACT_NOT_FOUND,
        Reason.ARTIFACT_CORRUPT,
        Reason.ARTIFACT_INVALID,
        Reason.FRAMEWORK_UNSUPPORTED,
        Reason.ENVIRONMENT_FAILED,
        Reason.QUANTISATION_REFUSED,
    }
)
"""Failures that trying again cannot mend."""
_TRANSIENT_DELAY_MAX_S = 5.0
_FAILED_DELAY_S = (2.0, 10.0)
_BROKEN_DELAY_MAX_S = 30.0
_ASLEEP_DELAY_S = 5.0
_MEMORY_DELAY_MAX_S = 30.0
_WAITING = (Shortage.LEAVING.value, Shortage.FRESH.value)
_ALONE = Lineage()
_USUAL = Retention()


@dataclass(frozen=True, slots=True)
class ServerState:
    """What one model server says: whether it answers, and the models that are ready in it."""

    up: bool = False
    ready: frozenset[str] = frozenset()


Observation = Mapping[str, ServerState]
"""Every model server of the pool by its name."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do now."""


@dataclass(frozen=True, slots=True)
class BringUp:
    """Package, load and try the version on these servers, and record the wish as carried out."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unite:
    """Record the wish as carried out: everything that it asks for is loaded already."""


@dataclass(frozen=True, slots=True)
class Note:
    """Record how many replicas answer now."""

    ready_replicas: int
    health: Health


@dataclass(frozen=True, slots=True)
class Route:
    """Hand the traffic split to the router."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Have so many replicas from now on."""

    replicas: int
    why: str
    reason: str = "Load"
    """One word for the condition."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Record what there is to say of autoscaling, though the replicas stay."""

    reason: str
    message: str
    acts: bool = True


@dataclass(frozen=True, slots=True)
class FallAsleep:
    """Publish it as cold, and begin to drain."""

    idle_s: float
    evicted: str = ""
    """Why it makes room for others; empty: nobody asks for it."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Record that nothing of it is loaded, as is wished."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take it out of what is published, and begin to drain."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Publish it without these servers, and begin to drain there: it answers on all that it shall be on."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """Record that it waits for memory."""

    why: Shortage


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload it from these servers."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove its package and its row."""


Step = (
    Rest
    | BringUp
    | Unite
    | Note
    | Route
    | Scale
    | Explain
    | FallAsleep
    | Leave
    | Queue
    | Retire
    | Discard
    | Halt
    | Withdraw
    | Unload
    | Forget
)


def next_step(
    deployment: Deployment,
    *,
    observed: Observation,
    wanted: str,
    now: datetime,
    drain_s: float,
    asked: bool = True,
    idle_s: float = 0.0,
    lineage: Lineage = _ALONE,
    retention: Retention = _USUAL,
    berth: Berth | None = None,
) -> Step:
    """The one step to take. `observed` are all servers that concern it, `berth` says on which of them it shall be
    (None: on all); `wanted` is the fingerprint of the package that the wish asks for; `asked`: somebody waits for it;
    `idle_s`: for how long nobody has asked for it."""
    if deployment.deleting:
        return _unloading(deployment, observed, now, drain_s) or Forget()
    if deployment.successor and (older := step_of_older(deployment, lineage, now, retention)) is not None:
        return older
    # Without replicas nothing answers for the deployment, older versions no more than its own.
    if deployment.halted or (lineage.successor is not None and lineage.successor.halted):
        # Its package stays.
        return _unloading(deployment, observed, now, drain_s) or halting(deployment)
    if deployment.progress.asleep_since is not None and sleeps_on(deployment, asked=asked):
        return _sleep(deployment, deployment.progress.asleep_since, observed, now, drain_s)
    berth = berth or Berth.on_all(observed, deployment.replicas)
    if berth.drained:
        return Unload(berth.drained)
    return _answer(deployment, observed, berth, wanted, now) or _settled(deployment, idle_s, berth.evicted, now)


def _answer(deployment: Deployment, observed: Observation, berth: Berth, wanted: str, now: datetime) -> Step | None:
    """Of what shall answer. None: it does, as it is wished, and that is recorded."""
    progress = deployment.progress
    resting = progress.status is Status.FAILED and progress.next_attempt_at is None
    waits = progress.next_attempt_at is not None and now < progress.next_attempt_at
    if waits or (resting and progress.observed_generation == deployment.generation):
        return _note(deployment, observed, berth) or Rest()
    if berth.short is not None:
        return _queue(deployment, berth.short, observed, berth)
    up = [name for name, state in observed.items() if state.up and name in berth.servers]
    lacking = [
        name
        for name in up
        if progress.loaded.get(name) != wanted or deployment.server_model_name not in observed[name].ready
    ]
    # What was withdrawn and shall answer again may still be loaded; it is published anew all the same.
    if lacking or (up and progress.withdrawn_at is not None):
        return BringUp(tuple(lacking))
    if up and (not deployment.settled or progress.failure is not None or progress.asleep_since is not None):
        return Unite()
    left = tuple(name for name in progress.loaded if name not in berth.servers)
    if left and up and len(up) == len(berth.servers):
        return Leave(left)
    return _note(deployment, observed, berth)


def sleeps_on(deployment: Deployment, *, asked: bool) -> bool:
    """Whether what sleeps goes on sleeping: nobody asks for it, and it may sleep, or had to make room."""
    # What is to take over traffic is loaded first, though nobody asks for it.
    due = bool(deployment.successor) or deployment.progress.traffic_routed
    return due and not asked and (deployment.idle_timeout_s is not None or deployment.evicted)


def answering(deployment: Deployment, observed: Observation) -> tuple[str, ...]:
    """The servers on which it was proven and is ready now."""
    return tuple(
        name
        for name in deployment.progress.loaded
        if name in observed and deployment.server_model_name in observed[name].ready
    )


def retry_delay_s(reason: Reason, attempts: int, *, answered_before: bool, asleep: bool = False) -> float | None:
    """How long to wait after the failed attempt number `attempts` (from 1). None: not again by itself. What sleeps is
    tried again when somebody asks again, whatever it failed by."""
    if reason in TRANSIENT:
        return min(_TRANSIENT_DELAY_MAX_S, 0.25 * 2.0 ** min(attempts, 10))
    if asleep:
        return _ASLEEP_DELAY_S
    if reason is Reason.MEMORY_EXHAUSTED:
        return min(_MEMORY_DELAY_MAX_S, 2.0 * attempts)
    if reason in PERMANENT:
        return None
    if answered_before:
        return min(_BROKEN_DELAY_MAX_S, 0.5 * 2.0 ** min(attempts, 10))
    return _FAILED_DELAY_S[attempts - 1] if attempts < ATTEMPTS_MAX else None


def failed_status(reason: Reason, before: Status, *, answers: bool) -> Status:
    """A neighbour's failure leaves the deployment as it is, or under way; its own makes it failed, unless it `answers`
    somewhere just as it is wished."""
    if before is Status.ACTIVE and (answers or reason in TRANSIENT):
        return before
    return Status.DEPLOYING if reason in TRANSIENT else Status.FAILED


def answers_as_wished(deployment: Deployment, observed: Observation, wanted: str) -> bool:
    """Whether the current wish was carried out before, and some server answers by it now."""
    loaded = deployment.progress.loaded
    return deployment.settled and any(loaded[name] == wanted for name in answering(deployment, observed))


def health_of(answering_servers: int, servers: int) -> Health:
    """The word for so many of the pool's servers answering."""
    if answering_servers >= max(1, servers):
        return Health.HEALTHY
    return Health.DEGRADED if answering_servers else Health.UNHEALTHY


def withdrawing(progress: Progress, now: datetime, drain_s: float) -> Step | None:
    """What leads out of what is published. None: it is out, and what was under way has had the time to end."""
    if progress.loaded and progress.withdrawn_at is None:
        return Withdraw()
    if progress.withdrawn_at is not None and now < progress.withdrawn_at + timedelta(seconds=drain_s):
        return Rest()
    return None


def halting(deployment: Deployment) -> Step:
    """What is left to do of what has no replicas once nothing of it is loaded."""
    return Rest() if deployment.settled and deployment.progress.status is Status.ACTIVE else Halt()


def _unloading(deployment: Deployment, observed: Observation, now: datetime, drain_s: float) -> Step | None:
    """What leads to where nothing of it is loaded. None: nothing is."""
    progress = deployment.progress
    if (step := withdrawing(progress, now, drain_s)) is not None:
        return step
    if progress.next_attempt_at is not None and now < progress.next_attempt_at:
        return Rest()
    held = tuple(name for name, state in observed.items() if deployment.server_model_name in state.ready)
    return Unload(held) if held else None


def _settled(deployment: Deployment, idle_s: float, evicted: str | None, now: datetime) -> Step:
    """What is left to do where everything is as it is wished."""
    progress, timeout_s = deployment.progress, deployment.idle_timeout_s
    # What had no replicas is active too; with no server up to load it since, it has never answered.
    if progress.status is not Status.ACTIVE or not progress.loaded:
        return Rest()
    if not progress.traffic_routed and not deployment.successor:
        return Route()
    if progress.asleep_since is not None:
        return Rest()
    if evicted is not None:
        return FallAsleep(idle_s, evicted)
    baking = progress.warm_until is not None and now < progress.warm_until
    sleeps = timeout_s is not None and idle_s >= timeout_s and idle_s > 0
    return FallAsleep(idle_s) if sleeps and not baking else Rest()


def _sleep(deployment: Deployment, since: datetime, observed: Observation, now: datetime, drain_s: float) -> Step:
    progress = deployment.progress
    if progress.next_attempt_at is not None and now < progress.next_attempt_at:
        return Rest()
    held = tuple(name for name, state in observed.items() if deployment.server_model_name in state.ready)
    if held:
        return Unload(held) if now >= since + timedelta(seconds=drain_s) else Rest()
    # Of what is unloaded any wish is carried out that can be: it is loaded by it once somebody asks. Why it could not
    # be loaded stays told until then; that a neighbour was away does not. What was withdrawn is published again, as
    # cold.
    stale = progress.failure is not None and Reason(progress.failure.reason) in TRANSIENT
    return Unite() if stale or not deployment.settled or progress.withdrawn_at is not None else Rest()


def _queue(deployment: Deployment, why: Shortage, observed: Observation, berth: Berth) -> Step:
    """It waits for memory, and says so once. Of what sleeps and soon has room, those who wait for it need no word."""
    progress = deployment.progress
    if why is Shortage.EXHAUSTED:
        return Queue(why)
    told = any(one.type == "Placed" and one.reason in _WAITING for one in progress.conditions if not one.status)
    if progress.asleep_since is not None and (told or why is Shortage.LEAVING):
        return Rest()
    return (_note(deployment, observed, berth) or Rest()) if told else Queue(why)


def standing(deployment: Deployment, observed: Observation, berth: Berth) -> tuple[int, Health]:
    """How many of its replicas answer, and the word for it."""
    servers = len(answering(deployment, observed))
    return berth.replicas_on(servers, deployment.replicas), health_of(servers, berth.spread)


def _note(deployment: Deployment, observed: Observation, berth: Berth) -> Note | None:
    progress = deployment.progress
    ready, health = standing(deployment, observed, berth)
    known = (ready, health) == (progress.ready_replicas, progress.health)
    # What sleeps, or is just being woken, answers nowhere, and that is as it shall be.
    if progress.status is Status.PENDING or progress.asleep_since is not None or known:
        return None
    return Note(ready, health)
