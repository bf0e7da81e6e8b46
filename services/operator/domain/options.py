"""What an operator knows beside the wish: the version, and the cluster that it makes things for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.errors import MeshError, Reason

SYSTEM_AUTHORITIES, TEAMS_AUTHORITIES = "system", "secret"


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What the registry says of a version, as far as it shows in what is made. It never changes."""

    framework: str
    artifact_digest: str
    artifact_bytes: int = 0
    team: str = ""
    stage: str = ""
    reference_digest: str = ""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What is the same for all model deployments of a cluster."""

    fetch_image: str
    """The deployer's image: the init container that fetches and unpacks the version runs it."""
    server_image: str
    """The image with Triton."""
    gateway_address: str
    """host:port of the gateway, as pods reach it."""
    gateway_port: int = 8080
    """The port that the gateway's own pods listen on."""
    gateway_tls: str = ""
    """Whether it speaks TLS. Empty: no. SYSTEM_AUTHORITIES: by authorities that images believe. TEAMS_AUTHORITIES: by
    those that the Secret of the namespace names."""
    mesh_namespace: str = "infermesh"
    """The namespace of the mesh: from there alone model servers are reached."""
    monitoring_namespace: str = "monitoring"
    """The namespace from which metrics are collected."""
    image_pull_secrets: tuple[str, ...] = ()
    prometheus_url: str = ""
    """Where KEDA asks for requests, as http://host:port. Empty: nothing can be scaled to zero."""
    package_index: str = ""
    """URL of the package index for environments of frameworks. Empty: the image's own."""
    native_backends: tuple[str, ...] = ()
    """What the image with Triton has beside the python backend: of onnxruntime, pytorch, tensorflow and fil."""
    egress_cidrs: tuple[str, ...] = ()
    """Addresses beyond the cluster that init containers may reach, a package index for instance."""
    load_timeout_s: int = 600
    """How long a replica may take from its start until the version is loaded."""
    drain_s: int = 15
    """How long a replica that is withdrawn goes on answering. What routes must have followed by then."""
    request_timeout_s: int = 30
    """How long requests in flight may take after that."""
    run_as_user: int = 65532
    gpu_node_selector: Mapping[str, str] = field(default_factory=lambda: {"nvidia.com/gpu.present": "true"})
    gpu_taint: str = "nvidia.com/gpu"
    models_size_limit: str = ""
    """The most that a replica's model repository may take on its node's disk. Empty: three times the artifact, at least
    2 GiB."""


def check_stage(facts: VersionFacts, model_name: str, version: str) -> None:
    """Raises VERSION_ARCHIVED where the registry says that the version may not be deployed anew."""
    if facts.stage == "archived":
        raise MeshError(
            Reason.VERSION_ARCHIVED,
            f"{version} of model {model_name!r} is archived; set its stage to active, or wish for another version",
            metadata={"model_name": model_name, "version": version},
        )
