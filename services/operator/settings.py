"""What the operator can be told."""

from pathlib import Path

from pydantic import Field

from services.common.settings import ServiceSettings, settings_config


class OperatorSettings(ServiceSettings):
    """Environment variables INFERMESH_OPERATOR_<FIELD>. Lists are separated by commas."""

    model_config = settings_config("operator")

    port: int = 8107
    metrics_port: int = 8207
    instance: str = "operator-0"
    """Names this process among operators: it must be unique. In a pod, the pod's name."""
    kubeconfig: Path | None = None
    """The file with the cluster's address and credentials; none: those of the pod that this runs in."""
    namespaces: str = ""
    """The namespaces that are looked after; empty: all."""
    lease_namespace: str = "infermesh"
    """The namespace of the Lease by which one of several operators works."""
    lease_name: str = "infermesh-operator"
    """Its name."""
    lease_lasts_s: int = Field(default=15, ge=3, le=600)
    """Seconds for which nobody works after an operator died."""
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry."""
    gateway_address_in_pods: str = "infermesh-gateway.infermesh.svc:8080"
    """host:port of the gateway, as replicas reach it. Through it they fetch."""
    gateway_port: int = Field(default=8080, ge=1, le=65_535)
    """The port that the gateway's pods listen on, whatever their Service's: networks let replicas out to both."""
    gateway_tls: str = ""
    """Whether the gateway speaks TLS. Empty: no. "system": by authorities that the deployer's image believes. A path:
    by those of this file, in PEM, which the namespaces of teams get; replicas elsewhere cannot know them."""
    fetch_key_days: float = Field(default=7.0, ge=0.01, le=365)
    """How long a key lives by which the replicas of a team fetch, in days. It is renewed after half of that."""
    router_address: str = "127.0.0.1:8102"
    """host:port of the router."""
    fetch_image: str = "infermesh/deployer:0.1.0"
    """The image that fetches versions into replicas: the deployer's."""
    server_image: str = "infermesh/triton:0.1.0"
    """The image with Triton."""
    image_pull_secrets: str = ""
    """Secrets by which images are pulled."""
    mesh_namespace: str = "infermesh"
    """The namespace of the mesh: from there alone replicas are reached."""
    monitoring_namespace: str = "monitoring"
    """The namespace from which metrics are collected."""
    prometheus_url: str = ""
    """Where KEDA asks how much there is to do, as http://host:port. Empty: nothing sleeps."""
    package_index: str = ""
    """URL of the package index for environments of frameworks. Empty: the image's own."""
    native_backends: str = ""
    """What the image with Triton has beside the python backend: of onnxruntime, pytorch, tensorflow and fil."""
    egress_cidrs: str = ""
    """Addresses beyond the cluster that replicas may reach while they fetch."""
    gpu_node_label: str = "nvidia.com/gpu.present=true"
    """The label of nodes with GPUs."""
    gpu_taint: str = "nvidia.com/gpu"
    """The taint of nodes with GPUs."""
    load_timeout_s: int = Field(default=600, ge=10, le=7200)
    """Seconds that a replica may take until its version is loaded."""
    drain_s: int = Field(default=15, ge=0, le=600)
    """Seconds for which a replica that is withdrawn goes on answering."""
    request_timeout_s: int = Field(default=30, ge=1, le=600)
    """Seconds that requests in flight may take after that."""
    run_as_user: int = Field(default=65532, ge=1)
    """The user of replicas, by number."""
    workers: int = Field(default=16, ge=1, le=64)
    """Model deployments that are looked at side by side."""
    calls_per_s: float = Field(default=150.0, gt=0, le=10_000)
    """Calls to the API server a second in the long run."""
    calls_burst: int = Field(default=300, ge=1, le=10_000)
    """Calls to the API server at once."""
    call_deadline_s: float = Field(default=15.0, gt=0, le=300)
    """The longest that a call to the API server may take, in seconds."""
    relist_s: float = Field(default=1800.0, gt=0, le=86_400)
    """Seconds after which all is listed anew, should watching have missed anything."""
    teams: bool = True
    """Whether namespaces of teams are looked after."""
    teams_period_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds between looks at the registry's teams."""
    replica_cpu_default: str = "1"
    """CPU of a replica that states none, in a team's namespace."""
    replica_memory_default: str = "2Gi"
    """Memory of a replica that states none, in a team's namespace."""
