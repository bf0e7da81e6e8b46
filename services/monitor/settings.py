"""What the monitor can be told."""

from pathlib import Path

from pydantic import Field, SecretStr

from services.common.delivery.settings import TellingSettings
from services.common.settings import settings_config


class MonitorSettings(TellingSettings):
    """Environment variables INFERMESH_MONITOR_<FIELD>."""

    model_config = settings_config("monitor")

    port: int = 8105
    metrics_port: int = 8205
    instance: str = "monitor-0"
    database_url: SecretStr
    """postgresql+psycopg://… of the database; the tables are in its schema `monitor`."""
    host_name: str = "local"
    """Name of this host in resource_usage; give each host that runs a monitor its own."""
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry, which says who may see what, and is asked what is stored."""
    router_address: str = "127.0.0.1:8102"
    """host:port of the router, which is asked what changed and told to stop canaries."""
    deployer_address: str = "127.0.0.1:8103"
    """host:port of the deployer, which is followed for deployments that fail."""
    data_dir: Path | None = None
    """Folder where what the registry says of teams and models is kept, so that the monitor can tell callers apart also
    when it starts without the registry. Empty: it is not kept."""
    flush_period_s: float = Field(default=2.0, gt=0, le=60)
    """Seconds between writes. Longer: fewer writes, and acknowledgements and metrics that are as much later."""
    cells_max: int = Field(default=4096, ge=1)
    """Aggregates (model, version, deployment, minute) that may wait for the database, at 18 KB each; beyond, the
    batchers' streams are not read."""
    log_sample_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of the successful requests that is kept one by one in inference_logs; failed ones are all kept. The
    aggregates count every request whatever is set here."""
    log_rows_max: int = Field(default=20_000, ge=0)
    """Rows of inference_logs that one batcher's stream may have waiting; beyond, requests are counted but not kept."""
    seconds_max: int = Field(default=10_000, ge=0)
    """Sums by the second (model, version, second) that may wait for the database, at some 4 KB each; beyond, they are
    given up, and evidence that begins in their minutes begins at the next whole one."""
    predictions_max: int = Field(default=100_000, ge=1)
    """Requests of versions under test that may wait for the database; beyond, the batchers' streams are not read."""
    log_retention_days: int = Field(default=30, ge=1)
    """Days that inference_logs and prediction_labels keep, and so how late an outcome may be."""
    metrics_retention_days: int = Field(default=90, ge=1)
    """Days that model_metrics and its sketches keep."""
    drift_rows_per_s: float = Field(default=20.0, ge=0, le=1000)
    """Rows of each version that every batcher samples a second, for drift. 0: drift is not watched."""
    drift_retention_days: int = Field(default=30, ge=2)
    """Days that the summaries of features and outputs keep, and so how old a reference window may be."""
    sample_dir: Path | None = None
    """Folder on this host below which samples of training data may be read by file:// URI. Empty: only s3:// and gs://
    are read."""
    host_sample_period_s: float = Field(default=10.0, ge=1, le=60)
    """Seconds between looks at this host's CPU and memory."""
    nvml_library: Path | None = None
    """Path of NVIDIA's management library, libnvidia-ml.so.1, where the loader does not find it by itself, as on nodes
    that have the driver beside their system. Empty: the loader finds it, or there are no GPUs."""
    alert_period_s: float = Field(default=5.0, ge=0.1, le=60)
    """Seconds between looks at all alert rules."""
    channel_key: SecretStr = SecretStr("")
    """The key that the secrets of notification channels are encrypted with: 32 bytes in hexadecimal or Base64, the same
    for all monitors. Empty: one that is made and kept in `data_dir`; without either, channels with secrets are
    refused."""
    pager_duty_url: str = "https://events.pagerduty.com/v2/enqueue"
    """Where events for PagerDuty go; another one for its European service region."""
