"""What several manifests share."""

from collections.abc import Mapping

from services.operator.domain.names import API_VERSION, shared_labels, workload_labels, workload_name
from services.operator.domain.spec import ModelDeployment

Manifest = Mapping[str, object]


def owners(wish: ModelDeployment) -> list[Mapping[str, object]]:
    """Whatever is made goes with its model deployment."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ModelDeployment",
            "name": wish.name,
            "uid": wish.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def shared_metadata(wish: ModelDeployment) -> dict[str, object]:
    """The metadata of what there is once for a model deployment."""
    return {
        "name": wish.name,
        "namespace": wish.namespace,
        "labels": dict(shared_labels(wish.name, wish.model_name)),
        "ownerReferences": owners(wish),
    }


def workload_metadata(wish: ModelDeployment) -> dict[str, object]:
    """The metadata of what there is for the version that is wished."""
    return {
        "name": workload_name(wish.name, wish.version),
        "namespace": wish.namespace,
        "labels": dict(workload_labels(wish.name, wish.model_name, wish.version)),
        "ownerReferences": owners(wish),
    }
