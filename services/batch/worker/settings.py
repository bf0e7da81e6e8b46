"""What a worker can be told."""

from pathlib import Path

from pydantic import Field

from services.common.settings import ServiceSettings, settings_config


class WorkerSettings(ServiceSettings):
    """Environment variables INFERMESH_BATCH_WORKER_<FIELD>. Where the batch service starts workers, it tells them all
    of this by its own settings."""

    model_config = settings_config("batch_worker")

    port: int = 0
    """Nothing listens: a worker calls, and nobody calls it."""
    metrics_port: int = 0
    """Nothing listens: what workers count they tell the batch service."""
    instance: str
    """The worker's name, unlike that of any other that calls the same batch services: its leases are its own by it."""
    job_id: str = ""
    """The one job whose chunks it does; it ends when none is left. Empty: those of all jobs whose runtime is local."""
    attempt: int = Field(default=1, ge=1)
    """Which attempt of that job."""
    batch_address: str = "127.0.0.1:8104"
    """host:port of the batch service."""
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry."""
    batcher_address: str = "127.0.0.1:8080"
    """host:port of the gateway, or of a batcher."""
    batcher_tls: str = ""
    """As INFERMESH_BATCH_BATCHER_TLS."""
    authentication: bool = True
    """As INFERMESH_BATCH_AUTHENTICATION."""
    data_dir: Path
    """Where part files are kept while a job runs; the same folder as the batch service's."""
    request_timeout_s: float = Field(default=30.0, gt=0, le=600)
    """Deadline of one request to the batcher, in seconds."""
    outage_timeout_s: float = Field(default=600.0, ge=0, le=86_400)
    """The budget of retries: a job whose requests all fail for so many seconds, from whichever worker, fails."""
    niceness: int = Field(default=0, ge=0, le=19)
    """How much it gives way to others on its processors, as the command nice has it. Where pods share nodes by the
    requests of their containers it is better left at 0."""
