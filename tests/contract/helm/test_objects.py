"""What the chart renders is what Kubernetes takes: every object against the OpenAPI schemas of its API, strictly."""

from itertools import combinations

import kubernetes_validate
import pytest

from tests.support.helm import (
    CHART,
    NAMESPACE,
    RELEASE,
    VALUES,
    VARIANTS,
    containers,
    of_kind,
    rendered,
    run_helm,
    workloads,
)

OLDEST, NEWEST = "1.30", "1.37"
"""Chart.yaml's kubeVersion, and the newest that there are schemas of."""
OF_OTHERS = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}
"""Kinds that a cluster learns from others, whose schemas are not Kubernetes' own."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_lint_has_nothing_to_say(variant: str) -> None:
    done = run_helm("lint", "--strict", str(CHART), "-n", NAMESPACE, "-f", str(VALUES / f"{variant}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_one_that_kubernetes_knows(variant: str, version: str) -> None:
    checked = 0
    for manifest in rendered(variant):
        if manifest["apiVersion"] in OF_OTHERS:
            continue
        kubernetes_validate.validate(manifest, version, strict=True)
        checked += 1
    assert checked > 20


def test_an_object_that_is_none_is_found() -> None:
    broken = {**of_kind(rendered("minimal"), "Service")[0], "spec": {"prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_two_objects_have_one_name_and_all_say_whose_they_are(variant: str) -> None:
    manifests = rendered(variant)
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in manifests]
    assert len(names) == len(set(names))
    for one in manifests:
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/part-of"] == "infermesh"
        if not one["kind"].startswith("ClusterRole"):
            assert one["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_workload_finds_its_own_pods_and_no_others(variant: str) -> None:
    found = workloads(rendered(variant))
    for one in found:
        selector = one["spec"]["selector"]["matchLabels"].items()
        assert selector <= one["spec"]["template"]["metadata"]["labels"].items()
    for one, other in combinations(found, 2):
        selector = one["spec"]["selector"]["matchLabels"].items()
        assert not selector <= other["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("variant", VARIANTS)
def test_services_budgets_and_autoscalers_point_at_pods_that_there_are(variant: str) -> None:
    manifests = rendered(variant)
    found = workloads(manifests)
    pods = [one["spec"]["template"]["metadata"]["labels"].items() for one in found]
    for one in of_kind(manifests, "Service"):
        assert any(one["spec"]["selector"].items() <= labels for labels in pods), one["metadata"]["name"]
    for one in of_kind(manifests, "PodDisruptionBudget"):
        assert any(one["spec"]["selector"]["matchLabels"].items() <= labels for labels in pods)
    targets = {(one["kind"], one["metadata"]["name"]) for one in found}
    for one in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in targets
    services = {one["metadata"]["name"] for one in of_kind(manifests, "Service")}
    for one in of_kind(manifests, "StatefulSet"):
        assert one["spec"]["serviceName"] in services


def test_autoscalers_behave_as_promised() -> None:
    scalers = {one["metadata"]["name"]: one["spec"] for one in of_kind(rendered("full"), "HorizontalPodAutoscaler")}
    assert set(scalers) == {"infermesh-gateway", "infermesh-batcher"}
    for one in scalers.values():
        assert one["behavior"]["scaleUp"] == {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        }
        assert one["behavior"]["scaleDown"] == {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        }
    replicas = {one["metadata"]["name"]: one["spec"].get("replicas") for one in workloads(rendered("full"))}
    # An upgrade leaves alone what an autoscaler decides.
    assert (replicas["infermesh-gateway"], replicas["infermesh-batcher"]) == (None, None)


def test_gpus_are_asked_for_where_they_are() -> None:
    [pool] = [one for one in workloads(rendered("gpu")) if one["metadata"]["name"] == "infermesh-triton"]
    pod = pool["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu.shared": 2}
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true", "pool": "gpu"}
    assert {one["key"] for one in pod["tolerations"]} == {"models", "nvidia.com/gpu"}
    [deployer] = [one for one in containers(rendered("gpu")) if one.component == "deployer"]
    assert deployer.environment["INFERMESH_DEPLOYER_GPUS"] == "0,1"
    assert deployer.environment["INFERMESH_DEPLOYER_NATIVE_BACKENDS"] == "onnxruntime,pytorch"
    others = [one for one in workloads(rendered("gpu")) if one is not pool]
    assert all("runtimeClassName" not in one["spec"]["template"]["spec"] for one in others)
