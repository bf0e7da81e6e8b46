"""Why pods do not become ready, in the words of whoever knows: the container that failed, the scheduler, the
kubelet."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.body import Body, at, items, name_of, table, text, whole
from services.common.kubernetes.conditions import FALSE

_WORDS_MAX = 600
_NEXT_STEPS = {
    "ErrImagePull": "see that the image exists and that the namespace may pull it",
    "ImagePullBackOff": "see that the image exists and that the namespace may pull it",
    "Unschedulable": "ask for less in spec.resources, or add nodes",
    "OOMKilled": "raise spec.resources.memory",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod is not ready."""

    reason: str
    message: str


def trouble(pods: Iterable[Body]) -> Trouble | None:
    """The trouble of the first pod, by name, that has any that will not pass by itself."""
    for pod in sorted(pods, key=name_of):
        found = _of_containers(pod) or _of_scheduling(pod)
        if found is not None:
            return found
    return None


def _of_containers(pod: Body) -> Trouble | None:
    for list_name in ("initContainerStatuses", "containerStatuses"):
        for container in items(pod, "status", list_name):
            name = text(container, "name")
            for state in ("state", "lastState"):
                ended = table(container, state, "terminated")
                if ended and whole(ended, "exitCode"):
                    return _ended(name, ended)
            waiting = table(container, "state", "waiting")
            reason = text(waiting, "reason")
            if reason not in {"", "PodInitializing", "ContainerCreating"}:
                return Trouble(reason, _with_step(f"container {name}: {text(waiting, 'message') or reason}", reason))
    return None


def _ended(name: str, ended: Body) -> Trouble:
    reason, code = text(ended, "reason", default="Error"), whole(ended, "exitCode")
    said = text(ended, "message").strip()
    words = said.splitlines()[-1][-_WORDS_MAX:] if said else f"ended with exit code {code}"
    kind = {"fetch": "FetchFailed", "triton": "LoadFailed"}.get(name, "ContainerFailed")
    return Trouble(reason if reason in _NEXT_STEPS else kind, _with_step(f"container {name}: {words}", reason))


def _of_scheduling(pod: Body) -> Trouble | None:
    for one in items(pod, "status", "conditions"):
        if text(one, "type") == "PodScheduled" and text(one, "status") == FALSE:
            reason = text(one, "reason", default="Unschedulable")
            return Trouble(reason, _with_step(f"no node takes the pod: {text(one, 'message')}", reason))
    return None


def _with_step(words: str, reason: str) -> str:
    step = _NEXT_STEPS.get(reason)
    return f"{words}; {step}" if step else words


def belongs(pod: Body) -> bool:
    """Whether a pod is meant to stay: what ends says nothing about what begins."""
    return at(pod, "metadata", "deletionTimestamp") is None
