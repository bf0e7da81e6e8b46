"""Values that cannot be meant are refused before anything is installed, in words that say which and what is allowed."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm import CHART, VALUES, refusal, run_helm

_SCHEMA = CHART / "values.schema.json"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("gatewy: {replicas: 3}", "additional properties 'gatewy' not allowed"),
        ("database: {url: 'postgresql://user:password@host/mesh'}", "additional properties 'url' not allowed"),
        ("router: {replicas: 2}", "additional properties 'replicas' not allowed"),
        ("router: {settings: {lease_seconds: 5}}", "additional properties 'lease_seconds' not allowed"),
        ("router: {settings: {gateway_port: 81}}", "additional properties 'gateway_port' not allowed"),
        ("batch: {settings: {jobs_max: 100}}", "at '/batch/settings/jobs_max': maximum: got 100, want 64"),
        ("batch: {settings: {jobs_max: many}}", "at '/batch/settings/jobs_max': got string, want integer"),
        ("batcher: {settings: {redis_url: 'redis://:password@host'}}", "'redis_url' not allowed"),
        ("registry: {extraEnv: [{name: INFERMESH_REGISTRY_PORT, value: '1'}]}", "/registry/extraEnv/0/name"),
        ("gateway: {service: {type: ClusterIp}}", "value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"),
        ("gateway: {replicas: 0}", "at '/gateway/replicas': minimum: got 0, want 1"),
        ("tls: {mode: none}", "value must be one of 'cert-manager', 'existing', 'insecure'"),
        ("images: {triton: {digest: latest}}", "at '/images/triton/digest'"),
        ("triton: {nativeBackends: [onnx]}", "value must be one of 'onnxruntime', 'pytorch', 'tensorflow', 'fil'"),
        ("triton: {sharedMemory: 2GB}", "at '/triton/sharedMemory'"),
        ("triton: {podLabels: {gpu: true}}", "at '/triton/podLabels/gpu': got boolean, want string"),
        ("externalServers: {credentials: {vision: {token: x}}}", "at '/externalServers/credentials/vision'"),
        ("externalServers: {credentials: {../fraud: tokens}}", "invalid propertyName '../fraud'"),
        ("artifacts: {uri: /srv/models}", "at '/artifacts/uri'"),
        ("telemetry: {otlpEndpoint: 'http://collector:4317'}", "at '/telemetry/otlpEndpoint'"),
        ("networkPolicies: {callers: [{cidr: 10.0.0.0/8}]}", "additional properties 'cidr' not allowed"),
        ("serving: {accessMode: ReadOnlyMany}", "value must be one of 'ReadWriteOnce', 'ReadWriteMany'"),
        (
            "networkPolicies: {beyond: {external: {ports: [], to: [{ipBlock: {cidr: 10.0.0.0/8}}]}}}",
            "networkPolicies.beyond.external.ports: name at least one port",
        ),
        # What single values allow and together they do not.
        ("database: {secretName: ''}", "database.secretName: name a Secret of this namespace"),
        ("registry: {replicas: 2}", "registry.replicas: several registries need artifacts in a bucket"),
        (
            "{registry: {replicas: 2}, artifacts: {uri: 's3://models'}}",
            "registry.replicas: several registries sign with one key",
        ),
        ("batch: {replicas: 2}", "batch.replicas: several batch services share their folder of parts"),
        ("limiter: {enabled: true}", "limiter.enabled: limiters count in Redis"),
        ("gateway: {tls: {secretName: certificate}}", "gateway.tls.address: host:port with a name"),
        ("tls: {assumeCertManager: false}", "tls.mode: cert-manager is not installed in this cluster"),
        (
            "monitoring: {serviceMonitors: {enabled: true}}",
            "monitoring.serviceMonitors.enabled: the Prometheus operator is not installed",
        ),
    ],
)
def test_it_is_refused(values: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(values, tmp_path)


def test_a_cluster_that_has_cert_manager_needs_no_word_of_it() -> None:
    values = ("--set", "database.secretName=db", "--set", "monitoring.serviceMonitors.enabled=true")
    apis = ("--api-versions", "cert-manager.io/v1", "--api-versions", "monitoring.coreos.com/v1")
    done = run_helm("template", "infermesh", str(CHART), *values, *apis)
    assert done.returncode == 0, done.stderr


def test_an_older_cluster_is_refused() -> None:
    done = run_helm("template", "infermesh", str(CHART), "-f", str(VALUES / "minimal.yaml"), "--kube-version", "1.29.0")
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


def test_the_schema_is_strict_all_the_way_down() -> None:
    """An object without `additionalProperties` takes any word, however it is spelt."""
    schema = json.loads(_SCHEMA.read_text())
    free = {"global", "nodeSelector", "podSelector", "namespaceSelector", "ipBlock", "valueFrom", "items"}

    def look(part: Any, path: tuple[str, ...]) -> None:
        if not isinstance(part, dict):
            return
        if part.get("type") == "object" and "properties" in part:
            assert part.get("additionalProperties") is False, "/".join(path)
        for name, below in part.items():
            if name not in free:
                look(below, (*path, name))

    look(schema, ())


def test_every_default_is_there_and_every_value_is_known() -> None:
    """values.yaml and the schema have the same words: none is missing here, none is undocumented there."""
    schema = json.loads(_SCHEMA.read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in part:
            found: dict[str, Any] = schema["$defs"][part["$ref"].removeprefix("#/$defs/")]
            return found
        return part

    def compare(part: dict[str, Any], value: Any, path: str) -> None:
        part = resolved(part)
        if "properties" not in part or path.endswith(("/settings", "/resources", "/persistence")):
            return
        wanted = set(part["properties"]) - ({"global"} if not path else set())
        optional = {"tag", "digest"} if path.startswith("/images/") else set()
        assert wanted - optional <= set(value), path
        for name, below in part["properties"].items():
            if name in value:
                compare(below, value[name], f"{path}/{name}")

    compare(schema, values, "")
