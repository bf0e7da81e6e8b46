"""What a team has in a cluster: a namespace, what it may use in there, and who may do what.

Members are known to the cluster by groups that its identity provider names `infermesh:<team>:<role>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.common.kubernetes.names import BATCH_WORKERS
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.names import FIELD_MANAGER, GROUP, MANAGED_BY, TEAM, label_value

ROLES = ("viewer", "deployer", "admin")
_NAME = "infermesh-team"
_READ, _WRITE = ["get", "list", "watch"], ["create", "update", "patch", "delete"]
_DNS, _HTTPS = 53, 443
_POD_SECURITY = "pod-security.kubernetes.io"


@dataclass(frozen=True, slots=True)
class Team:
    """A team, and what it may use. Quantities as in Kubernetes; empty or None: no limit."""

    name: str
    namespace: str
    cpu: str = ""
    memory: str = ""
    gpu: int | None = None


@dataclass(frozen=True, slots=True)
class ReplicaDefaults:
    """What a replica gets that does not say what it needs, because where there is a quota each must."""

    cpu: str = "1"
    memory: str = "2Gi"


def team_manifests(team: Team, defaults: ReplicaDefaults, *, mesh_namespace: str) -> tuple[Manifest, ...]:
    """All that is made for a team, the namespace first. The mesh is in `mesh_namespace`."""
    quota = _quota(team)
    return (
        _namespace(team),
        *([quota] if quota else []),
        _limits(team, defaults),
        _deny_all(team),
        _let_workers_out(team, mesh_namespace),
        *(_role(team, role) for role in ROLES),
        *(_binding(team, role) for role in ROLES),
    )


def team_metadata(team: Team, name: str = _NAME) -> dict[str, object]:
    """The metadata of what a team has in its namespace."""
    return {"name": name, "namespace": team.namespace, "labels": _labels(team)}


def _labels(team: Team) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "infermesh-team",
        "app.kubernetes.io/part-of": "infermesh",
        MANAGED_BY: FIELD_MANAGER,
        TEAM: label_value(team.name),
    }


def _namespace(team: Team) -> Manifest:
    security = {f"{_POD_SECURITY}/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    security[f"{_POD_SECURITY}/enforce-version"] = "latest"
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": team.namespace, "labels": _labels(team) | security},
    }


def _quota(team: Team) -> Manifest | None:
    hard: dict[str, str] = {}
    for resource, limit in (("cpu", team.cpu), ("memory", team.memory)):
        if limit:
            hard |= {f"requests.{resource}": limit, f"limits.{resource}": limit}
    if team.gpu is not None:
        hard["requests.nvidia.com/gpu"] = str(team.gpu)
    if not hard:
        return None
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": team_metadata(team), "spec": {"hard": hard}}


def _limits(team: Team, defaults: ReplicaDefaults) -> Manifest:
    each = {"cpu": defaults.cpu, "memory": defaults.memory}
    limit = {"type": "Container", "default": each, "defaultRequest": dict(each)}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": team_metadata(team), "spec": {"limits": [limit]}}


def _deny_all(team: Team) -> Manifest:
    """Nothing reaches or leaves a pod that no other policy speaks of."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": team_metadata(team, "infermesh-default-deny"),
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def _let_workers_out(team: Team, mesh_namespace: str) -> Manifest:
    """Pods of batch jobs, which the batch service makes, reach names, buckets, and of the mesh what lets them in."""
    named = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    mesh = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": mesh_namespace}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": team_metadata(team, BATCH_WORKERS),
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": BATCH_WORKERS}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [
                {
                    "to": [named],
                    "ports": [{"port": _DNS, "protocol": "UDP"}, {"port": _DNS, "protocol": "TCP"}],
                },
                {"to": [mesh]},
                {"ports": [{"port": _HTTPS, "protocol": "TCP"}]},
            ],
        },
    }


def _role(team: Team, role: str) -> Manifest:
    """Viewers look, deployers also make and change, admins also see what pods say."""
    rules: list[Mapping[str, object]] = [
        {"apiGroups": [GROUP], "resources": ["modeldeployments", "abtests"], "verbs": list(_READ)},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": list(_READ)},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": list(_READ)},
        {"apiGroups": [""], "resources": ["pods", "services", "events", "resourcequotas"], "verbs": list(_READ)},
    ]
    if role != "viewer":
        rules.append({"apiGroups": [GROUP], "resources": ["modeldeployments", "abtests"], "verbs": list(_WRITE)})
        rules.append(
            {"apiGroups": [GROUP], "resources": ["modeldeployments/scale"], "verbs": ["get", "update", "patch"]}
        )
    if role == "admin":
        rules.append({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]})
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": team_metadata(team, f"infermesh-{role}"),
        "rules": rules,
    }


def _binding(team: Team, role: str) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": team_metadata(team, f"infermesh-{role}"),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"infermesh-{role}"},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": f"infermesh:{team.name}:{role}"}
        ],
    }
