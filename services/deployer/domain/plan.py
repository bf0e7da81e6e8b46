"""What to do next about one deployment: a pure function of what is wished, what was reached and what is observed.

It is level-triggered: it never asks what happened, only how things stand, so a crash anywhere resumes and an event that
was missed does no harm. Each step is safe to repeat.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.errors import Reason
from services.deployer.domain.deployment import Deployment, Health, Status

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


@dataclass(frozen=True, slots=True)
class FallAsleep:
    """Publish it as cold, and begin to drain."""

    idle_s: float


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take it out of what is published, and begin to drain."""


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload it from these servers."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove its package and its row."""


Step = Rest | BringUp | Unite | Note | Route | Scale | FallAsleep | Withdraw | Unload | Forget


def next_step(
    deployment: Deployment,
    *,
    observed: Observation,
    wanted: str,
    now: datetime,
    drain_s: float,
    asked: bool = True,
    idle_s: float = 0.0,
) -> Step:
    """The one step to take. `wanted` is the fingerprint of the package that the wish asks for; `asked`: somebody waits
    for it; `idle_s`: for how long nobody has asked for it."""
    if deployment.deleting:
        return _removal(deployment, observed, now, drain_s)
    progress = deployment.progress
    timeout_s = deployment.wish.idle_timeout_s
    if progress.asleep_since is not None and timeout_s is not None and not asked:
        return _sleep(deployment, progress.asleep_since, observed, now, drain_s)
    if progress.next_attempt_at is not None and now < progress.next_attempt_at:
        return _note(deployment, observed)
    resting = progress.status is Status.FAILED and progress.next_attempt_at is None
    if resting and progress.observed_generation == deployment.generation:
        return _note(deployment, observed)
    up = [name for name, state in observed.items() if state.up]
    lacking = [
        name
        for name in up
        if progress.loaded.get(name) != wanted or deployment.server_model_name not in observed[name].ready
    ]
    if lacking:
        return BringUp(tuple(lacking))
    if up and (not deployment.settled or progress.failure is not None or progress.asleep_since is not None):
        return Unite()
    note = _note(deployment, observed)
    return note if not isinstance(note, Rest) else _settled(deployment, timeout_s, idle_s)


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
    if reason in PERMANENT:
        return None
    if answered_before:
        return min(_BROKEN_DELAY_MAX_S, 0.5 * 2.0 ** min(attempts, 10))
    return _FAILED_DELAY_S[attempts - 1] if attempts < ATTEMPTS_MAX else None


def failed_status(reason: Reason, before: Status) -> Status:
    """A neighbour's failure leaves the deployment as it is, or under way; its own makes it failed."""
    if reason not in TRANSIENT:
        return Status.FAILED
    return before if before is Status.ACTIVE else Status.DEPLOYING


def health_of(answering_servers: int, servers: int) -> Health:
    """The word for so many of the pool's servers answering."""
    if answering_servers >= max(1, servers):
        return Health.HEALTHY
    return Health.DEGRADED if answering_servers else Health.UNHEALTHY


def _removal(deployment: Deployment, observed: Observation, now: datetime, drain_s: float) -> Step:
    progress = deployment.progress
    if progress.loaded and progress.withdrawn_at is None:
        return Withdraw()
    if progress.withdrawn_at is not None and now < progress.withdrawn_at + timedelta(seconds=drain_s):
        return Rest()
    if progress.next_attempt_at is not None and now < progress.next_attempt_at:
        return Rest()
    held = tuple(name for name, state in observed.items() if deployment.server_model_name in state.ready)
    return Unload(held) if held else Forget()


def _settled(deployment: Deployment, timeout_s: float | None, idle_s: float) -> Step:
    """What is left to do where everything is as it is wished."""
    if deployment.progress.status is not Status.ACTIVE:
        return Rest()
    if not deployment.progress.traffic_routed:
        return Route()
    sleeps = timeout_s is not None and idle_s >= timeout_s and idle_s > 0 and deployment.progress.asleep_since is None
    return FallAsleep(idle_s) if sleeps else Rest()


def _sleep(deployment: Deployment, since: datetime, observed: Observation, now: datetime, drain_s: float) -> Step:
    progress = deployment.progress
    if progress.next_attempt_at is not None and now < progress.next_attempt_at:
        return Rest()
    held = tuple(name for name, state in observed.items() if deployment.server_model_name in state.ready)
    if held:
        return Unload(held) if now >= since + timedelta(seconds=drain_s) else Rest()
    # Of what is unloaded any wish is carried out that can be: it is loaded by it once somebody asks. Why it could not
    # be loaded stays told until then; that a neighbour was away does not.
    stale = progress.failure is not None and Reason(progress.failure.reason) in TRANSIENT
    return Unite() if stale or not deployment.settled else Rest()


def _note(deployment: Deployment, observed: Observation) -> Step:
    progress = deployment.progress
    servers = len(answering(deployment, observed))
    ready = servers * deployment.replicas
    health = health_of(servers, len(observed))
    if progress.status is Status.PENDING or (ready, health) == (progress.ready_replicas, progress.health):
        return Rest()
    return Note(ready, health)
