"""What is there for a model deployment: its versions' workloads, as the API server last told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.common.body import Body, text, whole
from services.common.kubernetes.conditions import FALSE, TRUE, find
from services.operator.domain.applying import Key, key_of
from services.operator.domain.names import DRAINING_SINCE, VERSION

_QUOTA = "exceeded quota"


@dataclass(frozen=True, slots=True)
class Workload:
    """The Deployment of one version."""

    name: str
    version_label: str
    replicas: int
    """How many are wished of it now, by whoever scales it."""
    ready: int
    complete: bool
    """Whether all that is wished of it is there, is new, and answers."""
    stalled: bool
    """Whether its roll has stood still for longer than it may."""
    refused: str
    """Why no pods are made, in the API server's words. Empty: nothing is refused."""
    answered_since: datetime | None
    """Since when it answers without a break."""
    draining_since: datetime | None

    @property
    def refused_by_quota(self) -> bool:
        """Whether it is the namespace's quota that refuses pods."""
        return _QUOTA in self.refused


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is there for a model deployment."""

    objects: Mapping[Key, Body]
    workloads: Mapping[str, Workload]
    """By the version's label."""

    def get(self, kind: str, name: str) -> Body | None:
        """The object of that kind and name."""
        return self.objects.get((kind, name))


def observe(bodies: Iterable[Body]) -> Observed:
    """What the objects of a model deployment say."""
    objects = {key_of(body): body for body in bodies}
    found = [workload_of(body) for (kind, _), body in objects.items() if kind == "Deployment"]
    return Observed(objects, {one.version_label: one for one in found})


def workload_of(body: Body) -> Workload:
    """What a Deployment says. Each number counts only where it speaks of the wish as it is now."""
    wanted = whole(body, "spec", "replicas", default=1)
    ready = whole(body, "status", "readyReplicas")
    current = whole(body, "status", "observedGeneration") >= whole(body, "metadata", "generation", default=1)
    complete = (
        current
        and whole(body, "status", "updatedReplicas") == wanted
        and whole(body, "status", "replicas") == wanted
        and whole(body, "status", "availableReplicas") == wanted
    )
    progressing, available = find(body, "Progressing"), find(body, "Available")
    failure = find(body, "ReplicaFailure")
    return Workload(
        name=text(body, "metadata", "name"),
        version_label=text(body, "metadata", "labels", VERSION),
        replicas=wanted,
        ready=ready,
        complete=complete,
        stalled=current and text(progressing, "reason") == "ProgressDeadlineExceeded",
        refused=text(failure, "message") if current and text(failure, "status") == TRUE else "",
        answered_since=moment(text(available, "lastTransitionTime"))
        if text(available, "status", default=FALSE) == TRUE
        else None,
        draining_since=moment(text(body, "metadata", "annotations", DRAINING_SINCE)),
    )


def moment(said: str) -> datetime | None:
    """A moment as Kubernetes writes it; None where there is none."""
    try:
        return datetime.fromisoformat(said) if said else None
    except ValueError:
        return None


def written_moment(at: datetime) -> str:
    """A moment as Kubernetes writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
