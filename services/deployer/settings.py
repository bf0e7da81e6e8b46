"""What the deployer can be told."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from services.common.settings import ServiceSettings, settings_config

_ROOT = Path(__file__).parent.parent.parent


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
    triton_http_address: str = "127.0.0.1:8120"
    """host:port of each model server's HTTP endpoint, separated by commas. They are named triton-0, triton-1, …"""
    triton_grpc_address: str = "127.0.0.1:8121"
    """host:port of each model server's gRPC endpoint, in the same order."""
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

    @model_validator(mode="after")
    def _addresses_match(self) -> Self:
        if len(self.triton_http_address.split(",")) != len(self.triton_grpc_address.split(",")):
            raise ValueError("triton_http_address and triton_grpc_address must name the same number of servers")
        return self
