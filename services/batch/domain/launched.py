"""What became of a Job in a cluster, and what is to be done about it.

Two look after Jobs. Whoever carries a job sees to it that its Job is there and as it should be. And a tidier, which
only looks at what there is, suspends and removes what nobody carries any more. Both decide by what is so now, so
whichever of them dies or comes late, the next look puts it right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from services.batch.domain.indexed_job import APPLIED, ATTEMPT, JOB_ID, Manifest
from services.batch.domain.job import Status
from services.common.body import Body, at, items, name_of, namespace_of, table, text, whole
from services.common.errors import MeshError, Reason
from services.common.kubernetes.conditions import FALSE, TRUE, find

_WORDS_MAX = 600
_STARTING = {"", "PodInitializing", "ContainerCreating"}
_NEXT_STEPS = {
    "ErrImagePull": "see that INFERMESH_BATCH_POD_IMAGE exists and that the team's namespace may pull it",
    "ImagePullBackOff": "see that INFERMESH_BATCH_POD_IMAGE exists and that the team's namespace may pull it",
    "InvalidImageName": "mend INFERMESH_BATCH_POD_IMAGE",
    "CreateContainerConfigError": "see that the Secrets which pods are told from are in the team's namespace",
    "OOMKilled": "raise INFERMESH_BATCH_POD_MEMORY or lower batch_size",
    "FailedCreate": "see the team's quota and the namespace's rules, and retry the job, which goes on where it stopped",
}
_ANY_STEP = "see the pods' logs, and retry the job, which goes on where it stopped"


@dataclass(frozen=True, slots=True)
class Bond:
    """The one job that a worker was started for, and which attempt of it."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands, as far as those who work on it must know."""

    status: Status
    paused: bool
    attempt: int
    total_chunks: int
    completed_chunks: int

    def over(self, attempt: int) -> bool:
        """Whether nothing is left to do for the workers of an attempt, nor will be."""
        done = 0 < self.total_chunks <= self.completed_chunks
        return self.status.ended or self.attempt != attempt or done


@dataclass(frozen=True, slots=True)
class Launched:
    """A Job, as the cluster has it."""

    namespace: str
    name: str
    uid: str
    job_id: str
    attempt: int
    applied: str
    suspended: bool
    parallelism: int
    deadline_s: int
    ready: int
    complete: bool
    failure: tuple[str, str] | None
    """The reason and the message of its end without success."""
    ending: bool
    """Whether it is being removed."""


class Step(Enum):
    """What whoever carries a job does next about its Job."""

    NOTHING = auto()
    CREATE = auto()
    CHANGE = auto()
    REMOVE = auto()
    """So that it can be made anew."""


class Fate(Enum):
    """What becomes of a Job by the standing of its job."""

    KEEP = auto()
    SUSPEND = auto()
    REMOVE = auto()


def read_launched(body: Body) -> Launched:
    """A Job as it is. What is not ours has no job."""
    failed = find(body, "Failed")
    attempt = text(body, "metadata", "annotations", ATTEMPT)
    return Launched(
        namespace_of(body),
        name_of(body),
        text(body, "metadata", "uid"),
        text(body, "metadata", "annotations", JOB_ID),
        int(attempt) if attempt.isdecimal() else 0,
        text(body, "metadata", "annotations", APPLIED),
        suspended=at(body, "spec", "suspend") is True,
        parallelism=whole(body, "spec", "parallelism"),
        deadline_s=whole(body, "spec", "activeDeadlineSeconds"),
        ready=whole(body, "status", "ready"),
        complete=text(find(body, "Complete"), "status") == TRUE,
        failure=(text(failed, "reason"), text(failed, "message")) if text(failed, "status") == TRUE else None,
        ending=at(body, "metadata", "deletionTimestamp") is not None,
    )


def next_step(wanted: Manifest, found: Launched | None) -> Step:
    """What makes `found` what is wanted. A Job whose workers all ended while there are chunks is made anew, since a
    part went missing; so is one of another release or other settings, for of a Job they cannot be changed."""
    if found is None:
        return Step.CREATE
    if found.ending or found.failure is not None:
        return Step.NOTHING
    if found.complete or found.applied != text(wanted, "metadata", "annotations", APPLIED):
        return Step.REMOVE
    same = (
        found.suspended == at(wanted, "spec", "suspend")
        and found.parallelism == whole(wanted, "spec", "parallelism")
        and found.deadline_s == whole(wanted, "spec", "activeDeadlineSeconds")
    )
    return Step.NOTHING if same else Step.CHANGE


def changes(wanted: Manifest) -> Manifest:
    """What may be changed of a Job, as it is wanted."""
    return {"spec": {name: at(wanted, "spec", name) for name in ("suspend", "parallelism", "activeDeadlineSeconds")}}


def fate(found: Launched, standing: Standing | None) -> Fate:
    """What becomes of a Job. None: there is no such job any more."""
    if standing is None or standing.status.ended or standing.attempt != found.attempt:
        return Fate.REMOVE
    return Fate.SUSPEND if standing.paused and not found.suspended and not found.complete else Fate.KEEP


def failure(found: Launched, pods: Iterable[Body], *, timeout_minutes: int) -> MeshError:
    """Why a Job that has failed did."""
    reason, message = found.failure or ("", "")
    if reason == "DeadlineExceeded":
        return MeshError(
            Reason.DEADLINE_TOO_SHORT,
            f"the job's workers ran for longer than its timeout_minutes {timeout_minutes}; raise it and retry the job, "
            "which goes on where it stopped",
        )
    told = _last_words(pods)
    said, step = told or (message or reason, _ANY_STEP)
    return _failed(found, f"too many of the job's workers failed: {said}; {step}", reason)


def obstacle(found: Launched, pods: Sequence[Body], refusals: Sequence[str]) -> MeshError | None:
    """What keeps all workers from starting and will not pass by itself; None: nothing, or no node has room for them, as
    where spot nodes are scarce. `refusals`: what the cluster said when it made no pods."""
    for pod in sorted(pods, key=name_of):
        for container in items(pod, "status", "containerStatuses"):
            reason = text(container, "state", "waiting", "reason")
            if reason not in _STARTING:
                said = text(container, "state", "waiting", "message")[:_WORDS_MAX] or reason
                step = _NEXT_STEPS.get(reason, _ANY_STEP)
                return _failed(found, f"the job's workers cannot start: {said}; {step}", reason)
    if not pods and refusals:
        words = refusals[-1][:_WORDS_MAX]
        step = _NEXT_STEPS["FailedCreate"]
        quota = "exceeded quota" in words
        return _failed(found, f"the cluster makes no pods for the job: {words}; {step}", "FailedCreate", quota=quota)
    return None


def unheard(found: Launched, batch_address: str, seconds: float) -> MeshError:
    """Workers run, and none has ever asked for work."""
    return _failed(
        found,
        f"the job's workers run, and none of them has asked the batch service for work in {seconds:g} s; see the pods' "
        f"logs, that pods reach {batch_address} (INFERMESH_BATCH_POD_BATCH_ADDRESS) past all network policies, and "
        "that the Secret which INFERMESH_BATCH_POD_TLS_SECRET names holds a certificate of this mesh; then retry the "
        "job",
        "Unheard",
    )


def unscheduled(pods: Iterable[Body]) -> str:
    """What the scheduler says of pods that no node takes; empty: nothing."""
    for pod in sorted(pods, key=name_of):
        said = find(pod, "PodScheduled")
        if text(said, "status") == FALSE:
            return text(said, "message", default="no node takes the pod")[:_WORDS_MAX]
    return ""


def _last_words(pods: Iterable[Body]) -> tuple[str, str] | None:
    """What a container said that ended with an error, and what to do."""
    for pod in sorted(pods, key=name_of):
        for container in items(pod, "status", "containerStatuses"):
            ended = table(container, "state", "terminated")
            if not whole(ended, "exitCode"):
                continue
            reason, said = text(ended, "reason"), text(ended, "message").strip()
            words = said.splitlines()[-1][-_WORDS_MAX:] if said else f"exit code {whole(ended, 'exitCode')} ({reason})"
            return words, _NEXT_STEPS.get(reason, _ANY_STEP)
    return None


def _failed(found: Launched, words: str, reason: str, *, quota: bool = False) -> MeshError:
    place = {"namespace": found.namespace, "kubernetes_job": found.name, "cause": reason}
    return MeshError(Reason.QUOTA_EXCEEDED if quota else Reason.WORKERS_FAILED, words, metadata=place)
