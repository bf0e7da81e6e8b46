"""Names and labels: what each object is called, and by which labels whoever looks finds it.

One model deployment has one workload for each version that is loaded: an old one beside a new one for as long as a
change of version takes. Labels say which is which, on pods and, because Kubernetes copies a Service's labels to them,
on EndpointSlices: so who follows endpoints knows of every address what answers there.
"""

from collections.abc import Mapping

from services.common.kubernetes.names import (
    API_VERSION,
    DEPLOYMENT,
    FINALIZER,
    GROUP,
    MODEL,
    TEAM,
    VERSION,
    label_value,
    version_slug,
    workload_name,
)

__all__ = [
    "API_VERSION",
    "DEPLOYMENT",
    "FINALIZER",
    "GROUP",
    "MODEL",
    "TEAM",
    "VERSION",
    "label_value",
    "version_slug",
    "workload_name",
]

FIELD_MANAGER = "infermesh-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
APPLIED = f"{GROUP}/applied"
"""The annotation with the digest of what was applied."""
DRAINING_SINCE = f"{GROUP}/draining-since"
"""The annotation of a workload of an old version that says since when nothing new is sent to it."""
ARTIFACT_DIGEST = f"{GROUP}/artifact-digest"
RESTARTED_AT = f"{GROUP}/restarted-at"
"""The annotation of pods by which another restart makes other pods."""

FETCH_SECRET = "infermesh-fetch"  # noqa: S105 - a name
"""The Secret of a team's namespace by which its replicas fetch, with these entries:"""
API_KEY, AUTHORITIES = "api-key", "ca.crt"

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002


def shared_labels(deployment: str, model: str) -> Mapping[str, str]:
    """The labels of all that is made for a model deployment."""
    return {
        "app.kubernetes.io/name": "infermesh-model",
        "app.kubernetes.io/instance": deployment,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/part-of": "infermesh",
        MANAGED_BY: FIELD_MANAGER,
        MODEL: label_value(model),
        DEPLOYMENT: deployment,
    }


def workload_labels(deployment: str, model: str, version: str) -> Mapping[str, str]:
    """The labels of all that is made for one version of it."""
    return {
        **shared_labels(deployment, model),
        "app.kubernetes.io/version": label_value(version),
        VERSION: label_value(version),
    }


def selector(deployment: str, version: str) -> Mapping[str, str]:
    """By which labels a version's pods are found. It never changes, since a Deployment's selector cannot."""
    return {DEPLOYMENT: deployment, VERSION: label_value(version)}
