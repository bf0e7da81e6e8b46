"""What the batcher can be told."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from services.common.settings import settings_config, shared_by_services


class BatcherSettings(BaseSettings):
    """Environment variables INFERMESH_BATCHER_<FIELD>."""

    model_config = settings_config("batcher")

    host: str = "127.0.0.1"
    """Address to listen on. Loopback by default: whoever exposes a service says so."""
    port: int = Field(default=8110, ge=1, le=65535)
    """Port of everything: every protocol, health and `/metrics`. Of a batcher that a gateway carries: of health and
    `/metrics` alone, since predictions come to the gateway's own port."""
    gateway_config: Path | None = None
    """File with the gateway's Envoy configuration: this process becomes the gateway and carries the batcher as a filter
    in its chain. Absent: it becomes an Envoy that is a batcher and nothing else."""
    gateway_admin: str = ""
    """host:port of that gateway's admin interface, over which a stop tells callers to leave. Empty: nobody is told."""
    gateway_threads: int = Field(default=1, ge=1, le=64)
    """Envoy's worker threads in a gateway that carries the batcher. The batcher itself has one thread."""
    address: str = ""
    """host:port where the gateway reaches this batcher. Empty: host and port above. A batcher that a gateway carries
    states none."""
    instance: str = "batcher-0"
    """Stable name of this process, unique among batchers; the router and the monitor know it by this."""
    data_dir: Path = Path(".data/batcher")
    """Folder of the last serving table, which a restart begins with while the router is away, and of the reference
    samples of what is served."""
    router_address: str = "127.0.0.1:8102"
    """host:port of the router."""
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry, which gives out the reference samples of explanations."""
    monitor_address: str = "127.0.0.1:8105"
    """host:port of the monitor."""
    deployer_address: str = "127.0.0.1:8103"
    """host:port of the deployer, which loads versions that are cold and is told what is in demand."""
    external_ca: str = Field(default="", validation_alias=shared_by_services("batcher", "external_ca"))
    """File with the authorities, in PEM, whose certificates of external servers are believed. Empty: those that this
    system believes. INFERMESH_EXTERNAL_CA tells deployer and batchers the same. Read at the start."""
    external_credentials: str = Field(
        default="", validation_alias=shared_by_services("batcher", "external_credentials")
    )
    """Folder with the bearer tokens that deployments of external servers name, each in the file <team>/<name>; those of
    models that are no team's in the file <name>. Looked at before each use. Empty: there are none.
    INFERMESH_EXTERNAL_CREDENTIALS tells deployer and batchers the same."""
    demand_period_s: float = Field(default=2.0, gt=0, le=10)
    """How often the deployer is told what was asked for, in seconds. Longer: an idle version stays loaded, and a busy
    one stays short of replicas, for as much longer."""
    tls_dir: str = ""
    """Folder with ca.crt, tls.crt and tls.key: mutual TLS with gateways and other services. Empty: none, which is
    refused where `host` is not this machine's alone."""
    insecure: bool = False
    """True: listen beyond this machine without TLS all the same. Whoever reaches the port may do everything."""
    log_level: str = "info"
    """debug, info, warning or error."""
    telemetry: bool = True
    """off: times are not measured. There are no histograms and no traces then; requests, errors and predictions are
    counted all the same, and every gauge stays."""
    otlp_endpoint: str = ""
    """host:port of an OTLP gRPC receiver for traces. Empty: traces are not exported."""
    trace_ratio: float = Field(default=0.001, ge=0, le=1)
    """The share of requests without a `traceparent` that begin a trace. Those that have one are traced as it says."""
    traces_per_s_max: float = Field(default=100.0, gt=0, le=10_000)
    """The most requests a second that spans are made of, some 0.2 ms of CPU each; beyond it they are dropped and
    counted."""
    shutdown_grace_s: float = Field(default=8.0, gt=0, le=600)
    """The longest that a stop may take, in seconds: requests in flight are finished within it."""
    team_weights: dict[str, Annotated[float, Field(ge=0.01, le=100)]] = {}
    """JSON object: each team's share of a version's rows and of its queue while several teams wait, relative to 1, the
    share of teams that are not named. A team of weight 3 gets three times the rows of one of weight 1. 0.01 to 100: a
    team of far less than the others would need thousands of turns to gather what one row costs."""
    deadline_default_s: float = Field(default=30.0, gt=0, le=600)
    """The time limit of a request whose caller states none, in seconds: no wait is without end."""
    deadline_max_s: float = Field(default=300.0, gt=0, le=3600)
    """The longest time limit that is honoured, in seconds; longer ones are cut."""
    stream_idle_s: float = Field(default=3600.0, gt=0, le=86_400)
    """The longest that nothing moves on a request, in seconds: then the batcher's own Envoy ends it. An open stream may
    be quiet for long, and what waits for a prediction has its time limit. A gateway has a bound of its own."""
    log_flush_ms: float = Field(default=250.0, gt=0, le=10_000)
    """How often finished requests leave for the monitor, in milliseconds."""
    log_rows_max: int = Field(default=200_000, ge=1)
    """Finished requests kept for a monitor that is slow or away; beyond it they are dropped and counted."""
    shadow_copies_max: int = Field(default=128, ge=1, le=10_000)
    """Copies for shadow versions that may be on their way at once; beyond it they are dropped and counted. One version
    may hold as many as are free: alone half of them."""
    shadow_bytes_max: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Bytes that these may hold, inputs and the answers that they are compared with. What takes more than a sixteenth
    of it alone is not copied."""
    shadow_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """How long a copy may take from its caller's answer on, its wait for something idle included, in seconds."""
    cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Memory for the answers of deterministic versions, in bytes. 0: nothing is cached, in Redis neither."""
    cache_ttl_s: float = Field(default=3600.0, gt=0, le=86_400)
    """How long an answer is kept, in seconds."""
    redis_url: SecretStr = SecretStr("")
    """redis://[user:password@]host[:port][/database] of the cache's second layer, which all batchers share; rediss://
    for TLS. Empty: predictions are kept in memory alone."""
    feature_redis_url: SecretStr = SecretStr("")
    """The same of the feature store. Empty: features are in the cache's Redis, or, without one, none is found. Give
    them one of their own: a server whose memory is full does not tell features from predictions."""
    feast_url: str = ""
    """http:// or https:// URL of Feast's feature server (`feast serve`), which has the views of store "feast". Empty:
    there is none."""
    feature_deadline_ms: float = Field(default=10.0, gt=0, le=1000)
    """The longest that a request waits for a feature store, in milliseconds; 0.1 ms more for each row beside the
    first."""
    feature_cache_s: float = Field(default=300.0, ge=0, le=86_400)
    """How long a feature store's row is kept in memory, in seconds. 0: not at all."""
    feature_cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Memory for rows of feature stores, in bytes, about."""
    redis_read_timeout_ms: float = Field(default=5.0, gt=0, le=1000)
    """The longest that a request waits for Redis, in milliseconds, before it goes to the model."""
    explain_rows_max: int = Field(default=8192, ge=1, le=1_000_000)
    """Rows of the model that the explanation of one instance may cost, and 16 more for each feature: exact values of
    few features, good ones of dozens, in about a second of a small model."""
    explain_at_once_max: int = Field(default=2, ge=1, le=64)
    """Requests that are explained at once; each has one batch on its way. One of batch jobs is beside these."""
    explain_waiting_max: int = Field(default=64, ge=0, le=10_000)
    """Requests that wait for that; one more is refused with QUEUE_FULL."""

    @property
    def advertised(self) -> str:
        """host:port where gateways reach this batcher; empty where one carries it."""
        return "" if self.gateway_config else self.address or f"{self.host}:{self.port}"
