"""What the router can be told."""

from pathlib import Path

from pydantic import Field, SecretStr

from services.common.settings import ServiceSettings, settings_config


class RouterSettings(ServiceSettings):
    """Environment variables INFERMESH_ROUTER_<FIELD>."""

    model_config = settings_config("router")

    port: int = 8102
    metrics_port: int = 8202
    instance: str = "router-0"
    database_url: SecretStr
    """postgresql+psycopg://… of the database; the tables are in its schema `router`."""
    data_dir: Path | None = None
    """Folder where what the registry says of teams and models is kept, so that the router can hold its own callers to
    it also when it starts without the registry. What gateways are told of callers is in the database. Empty: it is not
    kept."""
    deployer_address: str = "127.0.0.1:8103"
    """host:port of the deployer, which says what is ready."""
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry, as the router and the gateway reach it."""
    batch_address: str = "127.0.0.1:8104"
    """host:port of the batch service."""
    monitor_address: str = "127.0.0.1:8105"
    """host:port of the monitor."""
    batcher_address: str = ""
    """host:port of each batcher, separated by commas, as the gateway reaches them. Others add themselves: a batcher
    that watches the serving table states its address, and gets requests once it has taken the table. Empty: every
    gateway carries a batcher of its own, and others get no requests."""
    batcher_grace_s: float = Field(default=30.0, ge=0, le=3600)
    """How long a batcher that added itself is kept after its stream ended, in seconds; longer while it is the last."""
    own_address: str = ""
    """host:port of this router, as the gateway reaches it. Empty: its own host and port, which fits one machine."""
    gateway_host: str = "127.0.0.1"
    """The address that the gateway listens on. Loopback by default: whoever exposes the mesh says so."""
    gateway_port: int = 8080
    """The port that the gateway listens on."""
    gateway_address: str = ""
    """host:port where this router reaches a gateway that carries a batcher, to ask whether predictions are answered.
    Empty: `gateway_host` and `gateway_port`, which fits one machine."""
    authentication: bool = True
    """Whether callers of the gateway must show an API key or a token of one of `oidc_issuers`, for everything but
    health. Off: everybody may do everything; for a machine that nobody else reaches."""
    oidc_issuers: str = ""
    """JSON list of those who vouch for users beside the mesh: objects with `issuer` (as tokens have it in `iss`),
    `audiences`, `jwks_uri` (where the gateway fetches their public keys) or `jwks` (a key set, or a file with one), and
    the names of claims: `user_claim` (default "sub"), `team_claim` and `role_claim` (default: tokens say neither).
    `ca_file`: whose certificates are believed at an https `jwks_uri`, as the gateway sees it."""
    gateway_tls_dir: str = ""
    """Folder with ca.crt, tls.crt and tls.key, as the gateways see it: mutual TLS between them and all services. Empty:
    none, which fits one machine."""
    limiter_address: str = ""
    """host:port of the limiter, as the gateways reach it: where there are several gateways, it holds callers to their
    rate limits over all of them together. Empty: each gateway by itself."""
    tls_certificate: str = ""
    """File with the gateway's certificate and its chain, PEM, as the gateway sees it. With `tls_private_key` the
    gateway speaks TLS and nothing else. A certificate that is moved into its place is taken up without a restart."""
    tls_private_key: str = ""
    """File with the private key of `tls_certificate`."""
    batchers_patience_s: float = Field(default=2.0, gt=0, le=60)
    """How long a change waits for the acknowledgement of connected batchers before gateways are told, in seconds."""
    first_batcher_s: float = Field(default=2.0, ge=0, le=60)
    """How long the first publication after the start waits for a batcher, in seconds: they need up to 2 s to dial
    again."""
    change_patience_s: float = Field(default=5.0, gt=0, le=25)
    """How long a call waits for its change to reach the gateways, in seconds: both waits of a publication and some."""
    ready_patience_s: float = Field(default=1.0, ge=0, le=10)
    """How long a change waits for a version that is not ready yet before it is refused, in seconds."""
    redeploy_patience_s: float = Field(default=120.0, gt=0, le=600)
    """How long a roll-back waits for a version that has to be deployed again, in seconds; callers with a deadline wait
    no longer than that."""
    aliases_period_s: float = Field(default=2.0, gt=0, le=3600)
    """Seconds between readings of the registry's aliases while their changes cannot be followed; more where there are
    so many that a reading takes long."""
    rules_period_s: float = Field(default=10.0, gt=0, le=3600)
    """Seconds between readings of all traffic rules, which find what was stored without being heard of. What another
    router changes is found within half a second."""
    rollouts_period_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds between readings of the rollouts that run, which find what another router stored."""
    lease_s: float = Field(default=6.0, ge=3, le=60)
    """How long this router may act on rollouts without hearing of the database, in seconds; so long nobody does after
    it died. It asks again three times as often."""
    database_patience_s: float = Field(default=20.0, ge=0, le=600)
    """How long a start waits for a database that does not answer, in seconds."""
    health_timeout_s: float = Field(default=1.0, gt=0, le=10)
    """How long another service may take to say that it is healthy, in seconds."""
