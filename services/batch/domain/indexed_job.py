"""The Kubernetes Job by which a job's chunks are done: an Indexed Job whose pods are workers for that job alone.

Indexes say who a worker is, not what it does: chunks are leased, so whichever index lives does them. An index whose pod
was preempted or evicted is started again as often as that happens; one whose pod dies by itself, some times.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.batch.domain.job import Job
from services.common.kubernetes.names import BATCH_WORKERS, GROUP, MODEL, TEAM, VERSION, label_value

Manifest = Mapping[str, object]

FIELD_MANAGER = "infermesh-batch"
NAME, OWNER = "app.kubernetes.io/name", "app.kubernetes.io/instance"
JOB_ID, ATTEMPT = f"{GROUP}/batch-job", f"{GROUP}/batch-attempt"
APPLIED = f"{GROUP}/applied"
"""The annotation with the digest of all that Kubernetes lets nobody change of a Job."""
CONTAINER = "worker"
UNUSABLE = 78
"""The exit code of a worker that can never work as it was told to, as sysexits.h has it: another start is no use."""
SYSTEM_AUTHORITIES, TEAMS_AUTHORITIES = "system", "secret"
GATEWAY_SECRET = "infermesh-fetch"  # noqa: S105 - a name
"""The Secret of a team's namespace in which the operator keeps the authorities of the gateway."""
AUTHORITIES = "ca.crt"
_TLS, _GATEWAY = "/etc/infermesh/tls", "/etc/infermesh/gateway"
_PREFIX = "INFERMESH_BATCH_WORKER_"
_PLAIN_ID = re.compile(r"batch_job_[0-9a-f]{1,24}")
_GRACE_S = 20
"""Workers stop within 8 s; a node that goes gives 25 or more."""
_TTL_S = 3600
"""A Job that ended is removed by whoever ended it; where nobody is left to, by the cluster after this long."""


@dataclass(frozen=True, slots=True)
class PodOptions:
    """What is the same for the workers of all jobs in a cluster; see `ClusterSettings`."""

    owner: str
    image: str
    batch_address: str
    registry_address: str
    batcher_address: str
    batcher_tls: str = ""
    authentication: bool = True
    tls_secret: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    env_from_secrets: tuple[str, ...] = ()
    service_account: str = "default"
    cpu: str = "1"
    memory: str = "2Gi"
    node_labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    pods_max: int = 64
    retries: int = 6
    request_timeout_s: float = 30.0
    outage_timeout_s: float = 600.0
    log_level: str = "info"
    run_as_user: int = 65532


def name_of_job(job_id: str, attempt: int) -> str:
    """What the Job of an attempt is called: the same whoever asks, and another one for any other attempt."""
    plain = _PLAIN_ID.fullmatch(job_id)
    slug = job_id.replace("_", "-") if plain else f"batch-{hashlib.sha256(job_id.encode()).hexdigest()[:24]}"
    return f"{slug}-{attempt}"


def indexed_job(job: Job, options: PodOptions, *, namespace: str, chunks: int) -> Manifest:
    """The Job that does what is left of a job that has so many chunks."""
    completions = max(1, min(chunks, options.pods_max))
    name = name_of_job(job.job_id, job.attempt)
    labels = _labels(job, options)
    annotations = {JOB_ID: job.job_id, ATTEMPT: str(job.attempt)}
    fixed: dict[str, object] = {
        "completionMode": "Indexed",
        "completions": completions,
        "backoffLimitPerIndex": options.retries,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailIndex",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [UNUSABLE]},
                },
            ]
        },
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod(job, options, name)},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {**annotations, APPLIED: _digest(fixed)},
        },
        "spec": {
            **fixed,
            "parallelism": min(job.spec.max_parallelism, completions),
            # Half of the workers may be lost for good; the others do the work of all.
            "maxFailedIndexes": completions // 2,
            "activeDeadlineSeconds": 60 * job.spec.timeout_minutes,
            "ttlSecondsAfterFinished": _TTL_S,
            "suspend": job.paused,
        },
    }


def _labels(job: Job, options: PodOptions) -> dict[str, str]:
    version = job.spec.version
    labels = {
        NAME: BATCH_WORKERS,
        OWNER: options.owner,
        "app.kubernetes.io/component": "batch-worker",
        "app.kubernetes.io/part-of": "infermesh",
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        "app.kubernetes.io/version": label_value(version.version),
        JOB_ID: label_value(job.job_id),
        MODEL: label_value(version.model),
        VERSION: label_value(version.version),
    }
    return labels | ({TEAM: label_value(job.team)} if job.team else {})


def _pod(job: Job, options: PodOptions, name: str) -> Manifest:
    pod: dict[str, object] = {
        "restartPolicy": "Never",
        "serviceAccountName": options.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": options.run_as_user,
            "runAsGroup": options.run_as_user,
            "fsGroup": options.run_as_user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_worker(job, options, name)],
        "volumes": _volumes(options),
    }
    if options.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in options.image_pull_secrets]
    if options.node_labels:
        pod["nodeSelector"] = dict(sorted(options.node_labels.items()))
    if options.taints:
        pod["tolerations"] = [{"key": key, "operator": "Exists"} for key in options.taints]
    return pod


def _worker(job: Job, options: PodOptions, name: str) -> Manifest:
    each = {"cpu": options.cpu, "memory": options.memory}
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in the pod
    if options.tls_secret:
        mounts.append({"name": "tls", "mountPath": _TLS, "readOnly": True})
    if options.batcher_tls == TEAMS_AUTHORITIES:
        mounts.append({"name": "gateway", "mountPath": _GATEWAY, "readOnly": True})
    container: dict[str, object] = {
        "name": CONTAINER,
        "image": options.image,
        "args": ["services.batch.worker"],
        "env": _environment(job, options, name),
        # A quota of a team counts both, and refuses pods that do not say both.
        "resources": {"requests": each, "limits": dict(each)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Its last words are the reason that the job gives.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if options.env_from_secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in options.env_from_secrets]
    return container


def _environment(job: Job, options: PodOptions, name: str) -> list[Manifest]:
    told = {
        "job_id": job.job_id,
        "attempt": str(job.attempt),
        "batch_address": options.batch_address,
        "registry_address": options.registry_address,
        "batcher_address": options.batcher_address,
        "batcher_tls": f"{_GATEWAY}/{AUTHORITIES}" if options.batcher_tls == TEAMS_AUTHORITIES else options.batcher_tls,
        "authentication": str(options.authentication).lower(),
        "data_dir": "/tmp/parts",  # noqa: S108 - in the pod
        "request_timeout_s": f"{options.request_timeout_s:g}",
        "outage_timeout_s": f"{options.outage_timeout_s:g}",
        "log_level": options.log_level,
        "tls_dir": _TLS if options.tls_secret else "",
    }
    # The annotation by which the Job controller tells a pod its index. A pod of the same index is the same worker: what
    # the one before it had is free as soon as it starts.
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    return [
        {"name": "JOB_COMPLETION_INDEX", "valueFrom": index},
        {"name": f"{_PREFIX}INSTANCE", "value": f"{name}-$(JOB_COMPLETION_INDEX)"},
        *({"name": f"{_PREFIX}{key.upper()}", "value": value} for key, value in sorted(told.items()) if value),
    ]


def _volumes(options: PodOptions) -> list[Manifest]:
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}}]
    if options.tls_secret:
        volumes.append({"name": "tls", "secret": {"secretName": options.tls_secret, "defaultMode": 0o440}})
    if options.batcher_tls == TEAMS_AUTHORITIES:
        source = {"secretName": GATEWAY_SECRET, "items": [{"key": AUTHORITIES, "path": AUTHORITIES}]}
        volumes.append({"name": "gateway", "secret": {**source, "defaultMode": 0o440}})
    return volumes


def _digest(fixed: Manifest) -> str:
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:20]
