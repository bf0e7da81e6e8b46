"""The replicas of a version: pods with Triton, and before it a container that fetches the version and checks its
digest.

A pod is ready once Triton has loaded the model, and at no other time. A change brings up one more pod before it takes
one away. A pod that must go is first taken out of the endpoints, then waits until whoever routes has followed, and
only then is told to end: Triton then finishes what is in flight.
"""

from collections.abc import Mapping
from math import ceil

from services.common.names import backend_model_name
from services.operator.domain.manifests.parts import Manifest, workload_metadata
from services.operator.domain.names import (
    API_KEY,
    ARTIFACT_DIGEST,
    AUTHORITIES,
    FETCH_SECRET,
    GRPC_PORT,
    HTTP_PORT,
    METRICS_PORT,
    RESTARTED_AT,
    TEAM,
    label_value,
    selector,
    workload_labels,
)
from services.operator.domain.options import TEAMS_AUTHORITIES, ClusterOptions, VersionFacts
from services.operator.domain.spec import ModelDeployment

MODELS = "/models"
"""Where a pod keeps its model repository, and what is needed to make it. The same place in both containers, since
packages link to environments."""
REPOSITORY = f"{MODELS}/repository"
_GATEWAY = "/etc/infermesh/gateway"
"""Where a pod has the authorities of the gateway."""
_GIB = 1024**3
_SHARED_MEMORY = "1Gi"
"""Triton hands tensors to models' processes by shared memory."""
_PROBE_TIMEOUT_S = 5


def deployment(wish: ModelDeployment, facts: VersionFacts, options: ClusterOptions, *, replicas: int) -> Manifest:
    """The Deployment of the version that is wished."""
    labels = dict(workload_labels(wish.name, wish.model_name, wish.version))
    if facts.team:
        labels[TEAM] = label_value(facts.team)
    metadata = workload_metadata(wish)
    annotations = {ARTIFACT_DIGEST: facts.artifact_digest}
    if wish.restarted_at:
        # As of any other template the pods of the one before go one by one, each once another is ready in its place.
        annotations[RESTARTED_AT] = wish.restarted_at
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            # Of a roll that stands still the status says so after this long; nothing is undone.
            "progressDeadlineSeconds": options.load_timeout_s + 60,
            "selector": {"matchLabels": dict(selector(wish.name, wish.version))},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _pod(wish, facts, options),
            },
        },
    }


def _pod(wish: ModelDeployment, facts: VersionFacts, options: ClusterOptions) -> Mapping[str, object]:
    pod: dict[str, object] = {
        "serviceAccountName": wish.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": options.drain_s + options.request_timeout_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": options.run_as_user,
            "runAsGroup": options.run_as_user,
            "fsGroup": options.run_as_user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            _spread(wish, "topology.kubernetes.io/zone"),
            _spread(wish, "kubernetes.io/hostname"),
        ],
        "initContainers": [_fetch(wish, facts, options)],
        "containers": [_server(wish, options)],
        "volumes": _volumes(facts, options),
    }
    if options.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    if wish.resources.gpu:
        chosen = dict(options.gpu_node_selector)
        if wish.resources.gpu_sharing:
            # The label by which NVIDIA's feature discovery says how a node's GPUs are shared.
            chosen["nvidia.com/gpu.sharing-strategy"] = wish.resources.gpu_sharing
        pod["nodeSelector"] = chosen
        pod["tolerations"] = [{"key": options.gpu_taint, "operator": "Exists", "effect": "NoSchedule"}]
    return pod


def _spread(wish: ModelDeployment, topology: str) -> Mapping[str, object]:
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector(wish.name, wish.version))},
        # Each roll is spread by itself, so that what goes does not push away what comes.
        "matchLabelKeys": ["pod-template-hash"],
    }


def _fetch(wish: ModelDeployment, facts: VersionFacts, options: ClusterOptions) -> Mapping[str, object]:
    """What writes the model repository of the one version, and ends with an error where its digest is another one."""
    environment = {
        "INFERMESH_FETCH_MODEL": wish.model_name,
        "INFERMESH_FETCH_VERSION": wish.version,
        "INFERMESH_FETCH_DIGEST": facts.artifact_digest,
        "INFERMESH_FETCH_FOLDER": MODELS,
        "INFERMESH_FETCH_ADDRESS": options.gateway_address,
        # A copy computes on one GPU.
        "INFERMESH_FETCH_INSTANCES": str(max(wish.serving.instances, wish.resources.gpu)),
        "INFERMESH_FETCH_GPUS": ",".join(map(str, range(wish.resources.gpu))),
        "INFERMESH_FETCH_NATIVE_BACKENDS": ",".join(options.native_backends),
        "INFERMESH_FETCH_THREADS": str(wish.serving.threads),
        "INFERMESH_FETCH_PRECISION": wish.serving.precision,
        "INFERMESH_FETCH_ACCURACY_DROP_MAX": f"{wish.serving.accuracy_drop_max:g}",
    }
    if options.package_index:
        environment["INFERMESH_FETCH_PACKAGE_INDEX"] = options.package_index
    mounts = [{"name": "models", "mountPath": MODELS}, {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in the pod
    if options.gateway_tls == TEAMS_AUTHORITIES:
        environment["INFERMESH_FETCH_TLS_CA"] = f"{_GATEWAY}/{AUTHORITIES}"
        mounts.append({"name": "gateway", "mountPath": _GATEWAY})
    elif options.gateway_tls:
        environment["INFERMESH_FETCH_TLS_CA"] = options.gateway_tls
    # A namespace that is no team's has none, and whatever starts sooner than its team's key is tried again.
    key = {"secretKeyRef": {"name": FETCH_SECRET, "key": API_KEY, "optional": True}}
    return {
        "name": "fetch",
        "image": options.fetch_image,
        "args": ["services.deployer.fetch"],
        "env": [
            {"name": "INFERMESH_FETCH_API_KEY", "valueFrom": key},
            *({"name": name, "value": value} for name, value in sorted(environment.items()) if value),
        ],
        "resources": _resources(wish, gpu=False),
        "securityContext": _hardened(),
        # Its last words are the reason that the status gives.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _server(wish: ModelDeployment, options: ClusterOptions) -> Mapping[str, object]:
    name = backend_model_name(wish.model_name, wish.version)
    loaded = {"httpGet": {"path": f"/v2/models/{name}/ready", "port": "http"}, "timeoutSeconds": _PROBE_TIMEOUT_S}
    return {
        "name": "triton",
        "image": options.server_image,
        "args": [f"--load-model={name}"],
        "env": [
            {"name": "EXIT_TIMEOUT_S", "value": str(options.request_timeout_s)},
            {"name": "MODEL_REPOSITORY", "value": REPOSITORY},
        ],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(wish, gpu=True),
        "securityContext": _hardened(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": {**loaded, "periodSeconds": 1, "failureThreshold": options.load_timeout_s},
        "readinessProbe": {**loaded, "periodSeconds": 2, "failureThreshold": 2},
        # Late on purpose: a server that is busy answers late, and killing it makes the others busier.
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": "http"},
            "timeoutSeconds": _PROBE_TIMEOUT_S,
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": options.drain_s}}},
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the pod
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - in the pod
        ],
    }


def _volumes(facts: VersionFacts, options: ClusterOptions) -> list[Mapping[str, object]]:
    limit = options.models_size_limit or f"{max(2, ceil(3 * facts.artifact_bytes / _GIB))}Gi"
    volumes: list[Mapping[str, object]] = [
        {"name": "models", "emptyDir": {"sizeLimit": limit}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _SHARED_MEMORY}},
    ]
    if options.gateway_tls == TEAMS_AUTHORITIES:
        items = [{"key": AUTHORITIES, "path": AUTHORITIES}]
        secret = {"secretName": FETCH_SECRET, "items": items, "optional": True, "defaultMode": 0o440}
        volumes.append({"name": "gateway", "secret": secret})
    return volumes


def _resources(wish: ModelDeployment, *, gpu: bool) -> Mapping[str, object]:
    """What is asked for is what may be used, so that replicas have what latencies were measured with."""
    asked = {name: value for name, value in (("cpu", wish.resources.cpu), ("memory", wish.resources.memory)) if value}
    if gpu and wish.resources.gpu:
        asked["nvidia.com/gpu"] = str(wish.resources.gpu)
    return {"requests": asked, "limits": dict(asked)} if asked else {}


def _hardened() -> Mapping[str, object]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
