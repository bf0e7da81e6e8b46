"""What the batch service can be told."""

import json
from pathlib import Path

from pydantic import Field, SecretStr, TypeAdapter

from services.batch.domain.notices import Offices
from services.batch.settings_clusters import ClusterSettings
from services.common.delivery.settings import TellingSettings
from services.common.settings import settings_config

_WEBHOOKS = TypeAdapter(dict[str, str])


class BatchSettings(TellingSettings, ClusterSettings):
    """Environment variables INFERMESH_BATCH_<FIELD>."""

    model_config = settings_config("batch")

    port: int = 8104
    metrics_port: int = 8204
    instance: str = "batch-0"
    database_url: SecretStr
    """postgresql+psycopg://… of the database; the tables are in its schema `batch`."""
    data_dir: Path
    """Where part files of local outputs are kept while a job runs; those of outputs in buckets are there. Services that
    share a database share this folder too."""
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
    workers: int = Field(default=1, ge=0, le=64)
    """Processes that do the chunks of jobs, started by this one. 0: this process does them itself."""
    worker_niceness: int = Field(default=19, ge=0, le=19)
    """How much they give way to others on the same processors, as the command nice has it. 19: all that is idle, and
    little where nothing is; 0: not at all."""
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
    """The budget of retries: a job whose requests all fail for so many seconds, from whichever worker, fails."""
    webhook_secret: SecretStr = SecretStr("")
    """What webhooks are signed with, so that receivers know who calls. Empty: jobs that ask for one are refused."""
    slack_webhooks: SecretStr = SecretStr("")
    """Slack's incoming webhooks, as a JSON object from the name of a channel to the URL. Empty: jobs that ask for a
    channel are refused."""
    retention_days: float = Field(default=30.0, ge=0, le=36_500)
    """How many days after its end a job is forgotten, with its failed rows and parts; its output stays. 0: never."""

    def fault(self) -> str:
        """What does not fit together, as a sentence without any secret; empty: nothing."""
        if fault := self.mail_fault() or self.cluster_fault("INFERMESH_BATCH_"):
            return fault
        try:
            wrong = [name for name, url in self.slack_urls().items() if not url.startswith(("https://", "http://"))]
        except ValueError as error:
            return str(error)
        return f"INFERMESH_BATCH_SLACK_WEBHOOKS has no URL for {', '.join(wrong)}" if wrong else ""

    def slack_urls(self) -> dict[str, str]:
        """Slack's webhooks by channel. Raises ValueError where they are no JSON object of texts."""
        text = self.slack_webhooks.get_secret_value()
        if not text:
            return {}
        try:
            return _WEBHOOKS.validate_python(json.loads(text))
        except ValueError:
            raise ValueError("INFERMESH_BATCH_SLACK_WEBHOOKS is no JSON object of channels and URLs") from None

    def offices(self) -> Offices:
        """By which means people can be told."""
        return Offices(
            email=bool(self.smtp_host),
            webhooks=bool(self.webhook_secret.get_secret_value()),
            private_webhooks=self.webhook_private,
            slack=frozenset(self.slack_urls()),
        )
