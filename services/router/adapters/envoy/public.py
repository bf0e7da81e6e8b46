"""The services that the gateway shows, in one table. What is not here does not exist for callers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.rpc import error_details_pb2, status_pb2
from inference import grpc_service_pb2
from infermesh.batch.v1 import batch_service_pb2
from infermesh.common.v1 import error_reason_pb2
from infermesh.deployer.v1 import deployer_service_pb2
from infermesh.monitor.v1 import monitor_service_pb2
from infermesh.prediction.v1 import prediction_service_pb2
from infermesh.registry.v1 import artifact_service_pb2, registry_service_pb2, team_service_pb2
from infermesh.router.v1 import router_service_pb2

from services.router.adapters.envoy import names


@dataclass(frozen=True, slots=True)
class PublicService:
    """A gRPC service and the cluster that answers it."""

    full_name: str
    cluster: str
    rest: bool = True
    """Whether it has a REST form that the gateway transcodes."""


PREDICTION = "infermesh.prediction.v1.PredictionService"
INFERENCE = "inference.GRPCInferenceService"

PREDICTION_SERVICES = (
    PublicService(PREDICTION, names.BATCHER),
    # Its REST form has errors and binary tensors of its own and passes as it is.
    PublicService(INFERENCE, names.BATCHER, rest=False),
)
CONTROL_SERVICES = (
    PublicService("infermesh.registry.v1.RegistryService", names.REGISTRY),
    PublicService("infermesh.registry.v1.ArtifactService", names.REGISTRY),
    PublicService("infermesh.registry.v1.TeamService", names.REGISTRY),
    PublicService("infermesh.deployer.v1.DeployerService", names.DEPLOYER),
    PublicService("infermesh.router.v1.RouterService", names.ROUTER),
    PublicService("infermesh.batch.v1.BatchService", names.BATCH),
    PublicService("infermesh.monitor.v1.MonitorService", names.MONITOR),
)
INFRASTRUCTURE = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
"""Answered by the router, which knows all public services."""

_DESCRIBED = (
    batch_service_pb2.DESCRIPTOR,
    deployer_service_pb2.DESCRIPTOR,
    monitor_service_pb2.DESCRIPTOR,
    prediction_service_pb2.DESCRIPTOR,
    artifact_service_pb2.DESCRIPTOR,
    registry_service_pb2.DESCRIPTOR,
    team_service_pb2.DESCRIPTOR,
    router_service_pb2.DESCRIPTOR,
    grpc_service_pb2.DESCRIPTOR,
)
_DETAILS = (error_details_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR, error_reason_pb2.DESCRIPTOR)
"""What error details are made of: without it the transcoder could not print them."""


def transcoded() -> Sequence[str]:
    """The full names of the services that have a REST form."""
    return [service.full_name for service in (*PREDICTION_SERVICES, *CONTROL_SERVICES) if service.rest]


def control_services() -> Iterator[ServiceDescriptor]:
    """The descriptors of the control plane's services."""
    return (_service(service.full_name) for service in CONTROL_SERVICES)


def prediction_service() -> ServiceDescriptor:
    """The descriptor of the service that predicts."""
    return _service(PREDICTION)


def _service(full_name: str) -> ServiceDescriptor:
    return next(
        described
        for file in _DESCRIBED
        for described in file.services_by_name.values()
        if described.full_name == full_name
    )


@cache
def descriptors() -> bytes:
    """The serialised descriptors of all public services and of what they and their errors are made of."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for file in (*_DESCRIBED, *_DETAILS):
        _collect(file, files)
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True)


def _collect(file: FileDescriptor, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """Adds a file and what it imports, imports first."""
    if file.name in files:
        return
    for dependency in file.dependencies:
        _collect(dependency, files)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    files[file.name] = proto


def extracted_fields() -> Iterator[tuple[str, str]]:
    """Method, as the field extraction writes it, and the field that names the model."""
    yield f"{PREDICTION}.Predict", "model_name"
    yield f"{PREDICTION}.PredictJson", "model_name"
    yield f"{INFERENCE}.ModelInfer", "model_name"
