"""Every pod of the chart is one that the restricted Pod Security Standard lets in, and holds as little as it can."""

from collections.abc import Sequence

import pytest

from services.operator.domain.names import FETCH_SECRET
from tests.support.helm import (
    VARIANTS,
    Container,
    Manifest,
    component_of,
    containers,
    of_kind,
    pod_of,
    rendered,
    workloads,
)


def _all(variant: str) -> list[Container]:
    found = list(containers(rendered(variant)))
    assert len(found) >= 9
    return found


def entitled(manifests: Sequence[Manifest]) -> set[str]:
    """Who has business with the cluster: the operator, and where there is one the deployer; batch where it launches
    Jobs."""
    there = {component_of(one) for one in workloads(manifests)}
    launches = any("INFERMESH_BATCH_CLUSTERS" in one.environment for one in containers(manifests))
    return ({"operator", "deployer"} if "operator" in there else set()) | ({"batch"} if launches else set())


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_run_as_nobody_and_know_nothing_of_the_cluster(variant: str) -> None:
    for workload in workloads(rendered(variant)):
        pod = pod_of(workload)
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod["automountServiceAccountToken"] is (component_of(workload) in entitled(rendered(variant)))
        # Else INFERMESH_REGISTRY_PORT is tcp://… wherever there is a Service called infermesh-registry.
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        kinds = {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}}
        assert kinds <= {"emptyDir", "secret", "configMap", "persistentVolumeClaim", "projected"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_containers_can_change_nothing_of_themselves(variant: str) -> None:
    for one in _all(variant):
        assert one.spec["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, one.name


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_containers_mount_there_is_and_secrets_are_read_alone(variant: str) -> None:
    for one in _all(variant):
        pod = pod_of(one.workload)
        claimed = one.workload["spec"].get("volumeClaimTemplates", ())
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        known = {*volumes, *(claim["metadata"]["name"] for claim in claimed)}
        assert not volumes.keys() & {claim["metadata"]["name"] for claim in claimed}, one.name
        mounts = {mount["name"]: mount for mount in one.spec["volumeMounts"]}
        assert mounts.keys() <= known, one.name
        for name, mount in mounts.items():
            if "secret" in volumes.get(name, ()):
                assert mount["readOnly"] is True, one.name
                assert volumes[name]["secret"]["defaultMode"] == 0o440, one.name


@pytest.mark.parametrize("variant", VARIANTS)
def test_containers_state_what_they_need_and_how_they_are_asked(variant: str) -> None:
    for one in _all(variant):
        assert {"cpu", "memory"} <= one.spec["resources"]["requests"].keys(), one.name
        assert "memory" in one.spec["resources"]["limits"], one.name
        if one.init:
            continue
        assert "livenessProbe" in one.spec, one.name
        named = {port["name"] for port in one.spec.get("ports", ())}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = one.spec.get(kind, {})
            assert probe.get("httpGet", {}).get("port") in {None, *named}, one.name
        # The keeper is there for the gateway alone, which tells whether the two are ready.
        assert ("readinessProbe" in one.spec) is (one.name != "gateway/keeper")


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_value_is_a_secret(variant: str) -> None:
    """Whatever may have a password in it comes out of a Secret."""
    for one in _all(variant):
        for variable in one.spec.get("env", ()):
            if variable["name"].endswith(("DATABASE_URL", "REDIS_URL", "SIGNING_KEY", "_TOKEN", "_PASSWORD")):
                assert set(variable) == {"name", "valueFrom"}, one.name
                assert "secretKeyRef" in variable["valueFrom"], one.name
    assert of_kind(rendered(variant), "Secret") == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_have_accounts_of_their_own_and_only_who_works_in_the_cluster_has_rights(variant: str) -> None:
    manifests = rendered(variant)
    accounts = {one["metadata"]["name"]: one for one in of_kind(manifests, "ServiceAccount")}
    used = [pod_of(one)["serviceAccountName"] for one in workloads(manifests)]
    assert sorted(used) == sorted(accounts)
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())
    bound = {
        subject["name"]
        for one in of_kind(manifests, "ClusterRoleBinding", "RoleBinding")
        for subject in one["subjects"]
    }
    assert bound == {f"{release}-{one}" for release in ("infermesh", "mesh") for one in entitled(manifests)} & set(
        accounts
    )


def test_batch_may_make_jobs_and_read_what_becomes_of_them_and_nothing_else() -> None:
    [role] = [one for one in of_kind(rendered("full"), "ClusterRole") if "batch" in one["metadata"]["name"]]
    may = {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}
    assert may == {
        "jobs": {"get", "list", "watch", "create", "patch", "delete"},
        "pods": {"get", "list", "watch"},
        "events": {"list"},
    }
    assert not [one for one in of_kind(rendered("minimal"), "ClusterRole") if "batch" in one["metadata"]["name"]]


def test_the_operator_may_do_what_it_needs_and_not_everything() -> None:
    [role] = [
        one
        for one in of_kind(rendered("minimal"), "ClusterRole")
        if one["metadata"]["name"] == "infermesh-operator-mesh"
    ]
    may = {
        (group, resource, verb)
        for rule in role["rules"]
        if "resourceNames" not in rule
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert not any("*" in one for one in may)
    assert not any(resource in {"secrets", "clusterroles", "clusterrolebindings", "nodes"} for _, resource, _ in may)
    assert not any(resource == "namespaces" and verb == "delete" for _, resource, verb in may)
    made = {
        ("apps", "deployments"),
        ("", "services"),
        ("", "serviceaccounts"),
        ("", "namespaces"),
        ("", "resourcequotas"),
        ("", "limitranges"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("policy", "poddisruptionbudgets"),
        ("networking.k8s.io", "networkpolicies"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("keda.sh", "scaledobjects"),
        ("autoscaling.k8s.io", "verticalpodautoscalers"),
    }
    for group, resource in made:
        assert {(group, resource, verb) for verb in ("get", "list", "watch", "create", "patch")} <= may
    assert [rule for rule in role["rules"] if "resourceNames" in rule] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [FETCH_SECRET],
            "verbs": ["list", "create", "patch"],
        }
    ]
    [leases] = of_kind(rendered("minimal"), "Role")
    assert leases["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "list", "watch", "create", "update", "patch"],
        }
    ]
