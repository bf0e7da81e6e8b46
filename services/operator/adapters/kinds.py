"""The kinds of Kubernetes that the operator makes or reads."""

from collections.abc import Mapping

from services.common.kubernetes.kinds import MODEL_DEPLOYMENT, Kind
from services.common.kubernetes.names import GROUP

AB_TEST = Kind(GROUP, "v1alpha1", "ABTest", "abtests")
POD = Kind("", "v1", "Pod", "pods")
QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
EVENT = Kind("", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CHILDREN = (
    Kind("apps", "v1", "Deployment", "deployments"),
    Kind("", "v1", "Service", "services"),
    Kind("", "v1", "ServiceAccount", "serviceaccounts"),
    Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
)
"""What is made for a ModelDeployment in every cluster."""
OPTIONAL_CHILDREN = (
    Kind("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
    Kind("autoscaling.k8s.io", "v1", "VerticalPodAutoscaler", "verticalpodautoscalers"),
)
"""What is made where the cluster has it."""
_OTHERS = (
    MODEL_DEPLOYMENT,
    AB_TEST,
    POD,
    QUOTA,
    EVENT,
    LEASE,
    Kind("", "v1", "Namespace", "namespaces", namespaced=False),
    Kind("", "v1", "LimitRange", "limitranges"),
    Kind("", "v1", "Secret", "secrets"),
    Kind("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
)
KINDS: Mapping[str, Kind] = {one.kind: one for one in (*CHILDREN, *OPTIONAL_CHILDREN, *_OTHERS)}
