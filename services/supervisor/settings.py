"""What the local mesh can be told, by variables INFERMESH_…"""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.supervisor.parts.valkey import MEMORY_MB
from services.supervisor.ports import BATCHERS_MAX, TRITONS_MAX

ROOT = Path(__file__).resolve().parents[2]
"""The clone."""


class SupervisorSettings(BaseSettings):
    """Where the local mesh keeps its data and what it runs. Ports are `MeshPorts`."""

    model_config = SettingsConfigDict(env_prefix="INFERMESH_", frozen=True)

    data_dir: Path = ROOT / ".data"
    """Everything that outlives a run: databases, artifacts, logs. `make clean-data` removes it."""
    serving_env: Path = ROOT / ".venv-serving"
    """The environment of Triton and of the models' frameworks."""
    batchers: int = Field(default=0, ge=0, le=BATCHERS_MAX)
    """Batchers beside the gateway, each a process. 0: the gateway carries one inside, which is fastest while one
    core does for the Python of all predictions."""
    tritons: int = Field(default=1, ge=1, le=TRITONS_MAX)
    """Triton servers, each a process with its own models: replicas are on different ones."""
    gateway_threads: int = 1
    """Envoy's worker threads in the gateway."""
    feature_memory_mb: int = Field(default=MEMORY_MB, ge=16)
    """Memory of the Redis with features, in MB. When it is full no more are taken, and none goes before its time."""
    cache_memory_mb: int = Field(default=MEMORY_MB, ge=16)
    """Memory of the Redis with kept predictions, in MB. When it is full the least recently used goes first."""
    auth: Literal["on", "off"] = "on"
    """Whether the gateway asks callers for a key. "off": whoever reaches the gateway may do everything; for a machine
    of one's own."""
    limiter: Literal["on", "off"] = "off"
    """Whether rate limits are counted by a limiter, for all gateways that are told of it. This mesh has one gateway,
    whose own counting is exact: it is here to be tried."""
    tls: str = "off"
    """Whether the gateway speaks TLS. "local": with a certificate made for this machine, whose authority is in
    `.data/tls/ca.crt`. The path of a folder: with its `tls.crt` and `tls.key`, taken up anew when they change."""
    peer_tls: Literal["on", "off"] = "off"
    """Whether services, gateway and supervisor show each other certificates, made here. They all listen on loopback
    alone: it is here to be tried, and for machines that others use too."""
    log_level: str = "info"
    """debug, info, warning or error; for all services."""
    otlp_endpoint: str = ""
    """host:port of an OTLP gRPC receiver for traces. Empty: no traces."""
    triton_otlp_url: str = ""
    """URL of an OTLP receiver over HTTP for Triton's own spans, such as http://127.0.0.1:4318/v1/traces; it speaks no
    other form. It makes them of batches with a traced request, and of no other. Empty: none."""
    bootstrap: bool = True
    """Register and deploy the digits model once the mesh stands."""

    @field_validator("tls")
    @classmethod
    def _tls(cls, value: str) -> str:
        if value in ("off", "local"):
            return value
        folder = Path(value).absolute()
        missing = [name for name in ("tls.crt", "tls.key") if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f'allowed: "off", "local", or a folder with tls.crt and tls.key; {missing[0]} is not there'
            )
        return str(folder)
