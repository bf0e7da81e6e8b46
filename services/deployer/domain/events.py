"""What is worth telling of a deployment's life, out of how it stood before and after."""

from dataclasses import dataclass
from datetime import datetime

from services.deployer.domain.deployment import Deployment, Progress, Status

EVENTS_KEEP_DAYS = 30
"""For how long events are kept."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a deployment. `actor` empty: the deployer itself."""

    type: str
    status: Status
    message: str
    generation: int
    actor: str = ""


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event as it is stored, under a number that grows."""

    number: int
    time: datetime
    event: Event


def created(deployment: Deployment) -> Event:
    """It was made."""
    return wished(deployment, "Created", f"{deployment.new.version} shall answer", deployment.new.created_by)


def wished(deployment: Deployment, type_: str, message: str, actor: str) -> Event:
    """A change of what is wished, by somebody."""
    return Event(type_, deployment.progress.status, message, deployment.generation, actor)


def passed(before: Deployment, after: Progress) -> tuple[Event, ...]:
    """What the deployer's own work came to. Looking twice at the same tells it once."""
    was, generation = before.progress, before.generation
    version = before.new.version

    def event(type_: str, message: str) -> Event:
        return Event(type_, after.status, message, generation)

    found = []
    done = (Status.ACTIVE, generation)
    if (after.status, after.observed_generation) == done and (was.status, was.observed_generation) != done:
        took = f" after {after.load_time_ms / 1000:.2f} s of loading" if after.load_time_ms else ""
        found.append(event("Active", f"{version} answers{took}" if not before.halted else "it has no replicas"))
    if after.failure is not None and after.failure != was.failure:
        again = "" if after.next_attempt_at is None else "; it is tried again"
        found.append(event("Failed", f"{after.failure.message}{again}"))
    if after.replicas is not None and after.replicas != was.replicas:
        found.append(event("Scaled", _condition(after, "Autoscaled")))
    if after.asleep_since is not None and was.asleep_since is None:
        found.append(event("Asleep", f"{version}: {_condition(after, 'Asleep')}"))
    if after.asleep_since is None and was.asleep_since is not None:
        found.append(event("Awake", f"{version} is loaded again"))
    if after.warm_until is not None and was.warm_until is None:
        found.append(event("Superseded", f"{version}: {_condition(after, 'Superseded')}"))
    if after.traffic_routed and not was.traffic_routed:
        found.append(event("Routed", _condition(after, "Routed")))
    if after.withdrawn_at is not None and was.withdrawn_at is None:
        found.append(event("Withdrawn", f"{version} gets no more requests; what is under way is answered"))
    return tuple(found)


def _condition(progress: Progress, type_: str) -> str:
    return next((one.message for one in progress.conditions if one.type == type_), "")
