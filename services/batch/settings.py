"""What the batch service can be told."""

from pathlib import Path

from pydantic import Field, SecretStr

from services.common.settings import ServiceSettings, settings_config


class BatchSettings(ServiceSettings):
    """Environment variables INFERMESH_BATCH_<FIELD>."""

    model_config = settings_config("batch")

    port: int = 8104
    metrics_port: int = 8204
    instance: str = "batch-0"
    database_url: SecretStr
    """postgresql+psycopg://… of the database; the tables are in its schema `batch`."""
    data_dir: Path
    """Where part files are kept while a job runs. Services that share a database share this folder too."""
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry."""
    batcher_address: str = "127.0.0.1:8080"
    """host:port of the gateway, or of a batcher."""
    batcher_tls: str = ""
    """Whether that speaks TLS. Empty: no. "system": by authorities that this system believes. A path: by those of this
    file, in PEM."""
    authentication: bool = True
    """Whether the gateway asks for a credential; then the registry gives one for each job's team. Off where the
    router's is off, and where `batcher_address` is a batcher's own."""
    jobs_max: int = Field(default=2, ge=1, le=64)
    """Jobs that this process runs at once; the others wait their turn."""
    lease_s: float = Field(default=10.0, ge=0.5, le=300)
    """How long a job stays with a process that is not heard of, in seconds. Shorter: jobs of a killed process go on
    sooner; longer: a database that is away for a while interrupts nothing."""
    poll_period_s: float = Field(default=1.0, ge=0.05, le=60)
    """Seconds between looks for jobs to run and for changes of those that run. A cancelled job stops within it."""
    chunk_rows_min: int = Field(default=1_000, ge=1, le=20_000)
    """The fewest rows of a chunk, the step that is done as a whole or again. Smaller: less is done again after a death;
    larger: fewer files and transactions."""
    request_timeout_s: float = Field(default=30.0, gt=0, le=600)
    """Deadline of one request to the batcher, in seconds."""
    outage_timeout_s: float = Field(default=600.0, ge=0, le=86_400)
    """The budget of retries: a job whose requests all fail for so many seconds fails."""
