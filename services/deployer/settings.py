"""What the deployer can be told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from services.common.kubernetes.clusters import kubeconfigs
from services.common.settings import ServiceSettings, settings_config, shared_by_services
from services.deployer.domain.equipment import NATIVE_BACKENDS, Equipment

_ROOT = Path(__file__).parent.parent.parent


def _listed(value: str) -> list[str]:
    return [one.strip() for one in value.split(",") if one.strip()]


def _check_backends(value: str) -> str:
    unknown = [name for name in _listed(value) if name not in NATIVE_BACKENDS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no backend that is known; allowed: {', '.join(NATIVE_BACKENDS)}")
    return value


def _check_gpus(value: str) -> str:
    numbers = _listed(value)
    if not all(one.isascii() and one.isdecimal() for one in numbers) or len({*map(int, numbers)}) < len(numbers):
        raise ValueError(f"{value!r} must be different numbers of GPUs, separated by commas, such as 0,1")
    return value


def _equipment(native_backends: str, gpus: str) -> Equipment:
    return Equipment(frozenset(_listed(native_backends)), tuple(int(gpu) for gpu in _listed(gpus)))


class DeployerSettings(ServiceSettings):
    """Environment variables INFERMESH_DEPLOYER_<FIELD>."""

    model_config = settings_config("deployer")

    port: int = 8103
    metrics_port: int = 8203
    instance: str = "deployer-0"
    database_url: SecretStr
    """postgresql+psycopg://… of the database; the tables are in its schema `deployer`."""
    data_dir: Path = Path(".data/deployer")
    """Folder for what the deployer keeps beside PostgreSQL."""
    artifact_cache_bytes_max: int = Field(default=32 * 1024**3, gt=0)
    """Bytes of fetched artifacts that are kept in `data_dir`; the least recently used make room for others."""
    model_repository: Path = Path(".data/triton/repository")
    """The folder that the model servers load from. The deployer writes it; a folder of the same name with the ending
    ".staging" beside it is where packages are built."""
    runner: Path = _ROOT / "deploy" / "triton" / "runner"
    """The runner that packages get."""
    serving_python: Path = _ROOT / ".venv-serving" / "bin" / "python"
    """The Python of the model servers. What frameworks other than ONNX need is installed for the same Python."""
    environments: Path | None = None
    """The folder of these environments; none: in `data_dir`. Deployers on one disk may share it."""
    framework_locks: Path = _ROOT / "requirements" / "frameworks"
    """The folder with a lock file for each framework."""
    package_index: str = ""
    """URL of the package index that environments are installed from; empty: PyPI."""
    package_links: str = ""
    """Folders and pages with further wheels, separated by blanks: of PyTorch without CUDA, for instance."""
    package_proxy: str = ""
    """URL of the proxy through which the package index is asked; empty: none."""
    environment_keep_days: float = Field(default=7.0, ge=0, le=3650)
    """How long an environment that no deployment uses is kept, in days. It is looked at when the deployer starts."""
    native_backends: str = ""
    """The backends that the model servers have beside Triton's python backend, separated by commas: of onnxruntime,
    pytorch, tensorflow and fil. They run what they can in place of the runner."""
    gpus: str = ""
    """The numbers of the GPUs that each of the model servers has, as CUDA counts them, separated by commas: "0,1".
    Empty: none, and deployments that ask for one are refused."""
    triton_http_address: str = "127.0.0.1:8120"
    """host:port of each model server's HTTP endpoint, separated by commas. They are named triton-0, triton-1, …"""
    triton_grpc_address: str = "127.0.0.1:8121"
    """host:port of each model server's gRPC endpoint, in the same order."""
    triton_metrics_address: str = ""
    """host:port of each model server's metrics, in the same order; empty: how busy their GPUs are is not known."""
    server_memory_limit: int = Field(default=0, ge=0)
    """Bytes of memory that each model server may take, its models included. Versions that do not fit together take
    turns: what is asked for displaces what is worth least. 0: servers on this machine share seven tenths of its memory
    (or of the container's), others have no limit."""
    external_hosts: str = ""
    """The hosts on which teams may name servers of their own as external backends, separated by commas; "*" stands for
    any characters. Operators, and everybody where callers are not told apart, may name any. Empty: teams may name none,
    because whatever listens on an address that they name would be asked in the mesh's name."""
    external_ca: str = Field(default="", validation_alias=shared_by_services("deployer", "external_ca"))
    """File with the authorities, in PEM, whose certificates of external servers are believed. Empty: those that this
    system believes. INFERMESH_EXTERNAL_CA tells deployer and batchers the same. Read at the start."""
    external_credentials: str = Field(
        default="", validation_alias=shared_by_services("deployer", "external_credentials")
    )
    """Folder with the bearer tokens that deployments of external servers name, each in the file <team>/<name>; those of
    models that are no team's in the file <name>. Looked at before each use. Empty: there are none.
    INFERMESH_EXTERNAL_CREDENTIALS tells deployer and batchers the same."""
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry."""
    router_address: str = "127.0.0.1:8102"
    """host:port of the router."""
    period_s: float = Field(default=0.5, gt=0, le=60)
    """Seconds between looks at the model servers: how soon one that came back is noticed."""
    drain_s: float = Field(default=3.0, ge=0, le=600)
    """Seconds between taking a version out of what is published and unloading it. Router, batchers and gateway follow
    within 2 s at the latest."""
    load_timeout_s: float = Field(default=120.0, gt=0, le=3600)
    """The longest that a model server may take to load a version, in seconds."""
    loads_max: int = Field(default=2, ge=1, le=64)
    """Versions that are loaded at the same time; more would take the cores from those that serve."""
    threads: int = Field(default=1, ge=1, le=256)
    """Threads of a copy whose deployment states none. 1 suits small machines: copies and batches run side by side."""
    local_replicas_max: int = Field(default=16, ge=1, le=1000)
    """The most copies of one deployment on this machine; each is a process of its own."""
    routing_patience_s: float = Field(default=60.0, ge=0, le=3600)
    """How long a deployment's traffic split is offered to a router that does not take it, in seconds."""

    old_version_keep_days: float = Field(default=7.0, ge=0, le=3650)
    """How long a version that its deployment does not have any more is kept once it sleeps, in days."""
    old_versions_max: int = Field(default=3, ge=0, le=100)
    """The most sleeping older versions that a deployment keeps."""

    clusters: str = ""
    """The Kubernetes clusters that deployments may run in, separated by commas: each a name, and after "=" the path of
    its kubeconfig. Without a path it is the cluster that the deployer runs in itself, by its pod's service account."""
    cluster_namespace: str = "default"
    """The namespace in clusters of deployments that state none and whose model is no team's."""

    cluster_namespaces: str = ""
    """The namespaces of clusters in which deployments may be, separated by commas; empty: all. In others nothing is
    read or written."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those of `cluster_namespaces`."""
        return tuple(_listed(self.cluster_namespaces))

    @property
    def kubeconfigs(self) -> Mapping[str, Path | None]:
        """The clusters by name; None: the one that this runs in."""
        return kubeconfigs(self.clusters)

    @field_validator("clusters")
    @classmethod
    def _named(cls, value: str) -> str:
        kubeconfigs(value)
        return value

    @property
    def equipment(self) -> Equipment:
        """What the model servers have."""
        return _equipment(self.native_backends, self.gpus)

    _known = field_validator("native_backends")(_check_backends)
    _numbers = field_validator("gpus")(_check_gpus)

    @model_validator(mode="after")
    def _addresses_match(self) -> Self:
        if len(self.triton_http_address.split(",")) != len(self.triton_grpc_address.split(",")):
            raise ValueError("triton_http_address and triton_grpc_address must name the same number of servers")
        metrics = self.triton_metrics_address
        if metrics and len(metrics.split(",")) != len(self.triton_http_address.split(",")):
            raise ValueError("triton_metrics_address must name as many servers as triton_http_address, or none")
        return self


class FetchSettings(BaseSettings):
    """What `python -m services.deployer.fetch` can be told: environment variables INFERMESH_FETCH_<FIELD>."""

    model_config = settings_config("fetch")

    model: str
    """The model."""
    version: str
    """The version, with its leading v."""
    digest: str = ""
    """SHA-256 of the artifact that it must be, lower-case hexadecimal. Empty: whatever the registry says."""
    folder: Path
    """Where everything is kept: `repository`, and what it is made of. A model server must see it at the same place."""
    address: str
    """host:port of the gateway."""
    api_key: SecretStr = SecretStr("")
    """A key that may read the version. Empty: none is sent, for a mesh that tells nobody apart."""
    tls_ca: str = ""
    """Whether the gateway speaks TLS. Empty: no. "system": by authorities that this system believes. A path: by those
    of this file, in PEM."""
    instances: int = Field(default=1, ge=1, le=64)
    """Copies of the model."""
    threads: int = Field(default=0, ge=0, le=256)
    """Threads of a copy; 0: `threads_default`."""
    threads_default: int = Field(default=1, ge=1, le=256)
    """Threads of a copy where nothing is stated."""
    precision: str = ""
    """Number format, as in a deployment's `serving.precision`."""
    accuracy_drop_max: float = Field(default=0.01, ge=0, le=1)
    """The largest share of answers on the reference sample that quantisation may change."""
    patience_s: float = Field(default=120.0, ge=0, le=3600)
    """How long a gateway or a registry that does not answer is waited for, in seconds. Then the cluster tries again."""
    log_level: str = "info"
    """debug, info, warning or error."""
    runner: Path = _ROOT / "deploy" / "triton" / "runner"
    """The runner that packages get."""
    serving_python: Path = Field(
        default=_ROOT / ".venv-serving" / "bin" / "python",
        validation_alias=AliasChoices(
            "serving_python", "INFERMESH_FETCH_SERVING_PYTHON", "INFERMESH_DEPLOYER_SERVING_PYTHON"
        ),
    )
    """The Python of the model servers. The deployer's image says it for both."""
    framework_locks: Path = _ROOT / "requirements" / "frameworks"
    """The folder with a lock file for each framework."""
    package_index: str = ""
    """URL of the package index that environments are installed from; empty: PyPI."""
    package_links: str = ""
    """Folders and pages with further wheels, separated by blanks."""
    package_proxy: str = ""
    """URL of the proxy through which the package index is asked; empty: none."""
    native_backends: str = ""
    """What the model server has beside the python backend, as for the deployer."""
    gpus: str = ""
    """The numbers of the GPUs that the replica has, separated by commas. Empty: none."""

    @property
    def equipment(self) -> Equipment:
        """What the model server has."""
        return _equipment(self.native_backends, self.gpus)

    _known = field_validator("native_backends")(_check_backends)
    _numbers = field_validator("gpus")(_check_gpus)
