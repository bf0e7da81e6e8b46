"""The cases of the operator's golden manifests. `python -m tests.support.operator_cases` writes the files anew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from services.common.body import Body
from services.operator.domain.manifests.desired import desired
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.manifests.team import ReplicaDefaults, Team, team_manifests
from services.operator.domain.options import TEAMS_AUTHORITIES, ClusterOptions, VersionFacts
from services.operator.domain.spec import read_spec

FOLDER = Path(__file__).parents[1] / "data" / "operator"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
OPTIONS = ClusterOptions(
    fetch_image="registry.example/infermesh/deployer:0.1.0",
    server_image="registry.example/infermesh/triton:0.1.0",
    gateway_address="infermesh-gateway.infermesh.svc:8080",
    prometheus_url="http://prometheus.monitoring.svc:9090",
)
FACTS = VersionFacts("onnx", DIGEST, 5_000_000, team="vision")
_SECURED = replace(
    OPTIONS,
    gateway_address="infermesh-gateway.infermesh.svc:443",
    gateway_tls=TEAMS_AUTHORITIES,
    image_pull_secrets=("pull",),
    egress_cidrs=("10.20.0.0/16",),
    package_index="https://packages.example/simple",
    native_backends=("onnxruntime", "fil"),
)
_SCALED: Mapping[str, object] = {
    "minReplicas": 2,
    "maxReplicas": 10,
    "targetCpuPercent": 70,
    "targetGpuPercent": 0,
    "targetLatencyMs": 100,
    "targetRequestsPerSec": 250.5,
    "targetConcurrency": 16,
    "targetQueueDepth": 8,
}


def body(spec: Mapping[str, object], *, name: str = "digits") -> Body:
    """A ModelDeployment as the API server gives it."""
    metadata = {"name": name, "namespace": "vision", "uid": "6f1c1a52-0000-4000-8000-000000000001", "generation": 1}
    return {
        "apiVersion": "infermesh.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": metadata,
        "spec": {"modelName": "digits", "version": "v1.0.0", **spec},
    }


SPECS: Mapping[str, tuple[Mapping[str, object], VersionFacts, ClusterOptions]] = {
    "plain": ({}, FACTS, OPTIONS),
    "resources": ({"resources": {"replicas": 3, "cpu": 4, "memory": "16Gi"}}, FACTS, OPTIONS),
    "nothing-loaded": ({"resources": {"replicas": 0}}, FACTS, OPTIONS),
    "serving": (
        {"serving": {"precision": "int8", "accuracyDropMax": 0.02, "instances": 2, "threads": 4}},
        FACTS,
        OPTIONS,
    ),
    "secured": ({}, replace(FACTS, framework="sklearn", team=""), _SECURED),
    "large": ({}, replace(FACTS, artifact_bytes=40 * 1024**3), OPTIONS),
    "autoscaled": ({"resources": {"cpu": "4", "memory": "16Gi"}, "autoscaling": _SCALED}, FACTS, OPTIONS),
    "autoscaled-slow": (
        {"autoscaling": {"targetQueueDepth": 0.25, "scaleDownStabilizationSeconds": 900}},
        FACTS,
        OPTIONS,
    ),
    "autoscaled-gpu": (
        {"resources": {"gpu": 1}, "autoscaling": {"maxReplicas": 4, "targetGpuPercent": 80}},
        FACTS,
        OPTIONS,
    ),
    "to-zero": (
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 5, "targetConcurrency": 16, "idleTimeoutSeconds": 600}},
        FACTS,
        OPTIONS,
    ),
    "to-zero-idle-only": (
        {"resources": {"cpu": "2"}, "autoscaling": {"minReplicas": 0, "targetCpuPercent": 60}},
        FACTS,
        OPTIONS,
    ),
    "vertical-recommend": (
        {"resources": {"cpu": "1"}, "autoscaling": {"targetQueueDepth": 8, "vertical": "recommend"}},
        FACTS,
        OPTIONS,
    ),
    "vertical-apply": (
        {"resources": {"cpu": "1"}, "autoscaling": {"targetLatencyMs": 100, "vertical": "apply"}},
        FACTS,
        OPTIONS,
    ),
    "gpu": ({"resources": {"gpu": 2, "memory": "32Gi"}, "serving": {"precision": "fp16"}}, FACTS, OPTIONS),
    "gpu-mps": ({"resources": {"gpu": 1, "gpuSharing": "mps"}}, FACTS, OPTIONS),
    "gpu-time-slicing": ({"resources": {"gpu": 1, "gpuSharing": "time-slicing"}}, FACTS, OPTIONS),
    "pre-release": ({"version": "v2.0.0-rc.1", "modelName": "sentiment_model"}, FACTS, OPTIONS),
}

TEAMS: Mapping[str, Team] = {
    "team": Team("vision", "vision", cpu="64", memory="256Gi", gpu=8),
    "team-without-limits": Team("search", "search-models"),
    "team-without-gpus": Team("ads", "ads", gpu=0),
}


def manifests(case: str) -> Sequence[Manifest]:
    """What is made in a case."""
    if case in TEAMS:
        return team_manifests(TEAMS[case], ReplicaDefaults(), mesh_namespace=OPTIONS.mesh_namespace)
    spec, facts, options = SPECS[case]
    wish = read_spec(body(spec))
    return desired(wish, facts, options, replicas=wish.replicas_first)


def text_of(case: str) -> str:
    """A golden file's text."""
    return "---\n".join(yaml.safe_dump(one, sort_keys=False, width=120) for one in map(plain, manifests(case)))


def plain(manifest: object) -> object:
    """A manifest in the types that YAML knows, none of them twice."""
    if isinstance(manifest, Mapping):
        return {str(name): plain(value) for name, value in manifest.items()}
    if isinstance(manifest, list | tuple):
        return [plain(one) for one in manifest]
    return manifest


def main() -> None:
    """Writes all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for case in (*SPECS, *TEAMS):
        (FOLDER / f"{case}.yaml").write_text(text_of(case))


if __name__ == "__main__":
    main()
