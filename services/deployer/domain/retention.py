"""The life of a deployment's older versions: answering until the newer one has taken over, then warm for a while, then
asleep and there for a rollback, then gone."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.deployer.domain.deployment import Deployment, Status


@dataclass(frozen=True, slots=True)
class Retire:
    """Record that the newer version has taken over, and until when this one stays loaded."""

    warm_until: datetime


@dataclass(frozen=True, slots=True)
class Discard:
    """Begin to remove an older version."""

    why: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known of the other versions of a deployment."""

    successor: Deployment | None = None
    """Of an older version: the deployment as it is now."""
    younger_asleep: int = 0
    """Of an older version: how many that are younger sleep."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long older versions are kept once they sleep, in seconds, and how many of a deployment."""

    keep_s: float = 7 * 86_400.0
    versions_max: int = 3


def step_of_older(
    deployment: Deployment, lineage: Lineage, now: datetime, retention: Retention
) -> Retire | Discard | None:
    """The life of an older version: as before until the newer one has taken over, then warm, then asleep, then gone.
    None: it is due to nothing but what any deployment is."""
    progress, successor = deployment.progress, lineage.successor
    if successor is None:
        return Discard("its deployment is gone")
    if not progress.loaded:
        return Discard("it never answered")
    if progress.warm_until is None:
        took_over = (
            successor.progress.status is Status.ACTIVE and successor.settled and successor.progress.traffic_routed
        )
        return Retire(now + timedelta(seconds=successor.wish.serving.bake_time_s)) if took_over else None
    # What fails is tried again for as long as it is to stay warm.
    hopeless = progress.next_attempt_at is None or now >= progress.warm_until
    if deployment.halted or (progress.status is Status.FAILED and hopeless):
        return Discard("it does not answer any more")
    if progress.asleep_since is None:
        return None
    if now >= progress.asleep_since + timedelta(seconds=retention.keep_s):
        return Discard(f"nobody asked for it for {retention.keep_s / 86_400:.3g} days")
    if lineage.younger_asleep >= retention.versions_max:
        return Discard(f"{retention.versions_max} younger ones are kept")
    return None
