"""What is served, as the batcher knows it: the domain twin of `infermesh.common.v1.ServedModel`. Immutable values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.common.feature_view import FeatureView
from services.common.schema import ModelSchema, PredictionMapping


@dataclass(frozen=True, slots=True)
class Padding:
    """How requests that differ in the sizes of variable dimensions share a batch; see `infermesh.common.v1.Padding`."""

    value: float = 0.0
    input_values: tuple[tuple[str, float], ...] = ()
    """What is filled in instead, by input."""
    lengths_input: str = ""
    trim_outputs: tuple[str, ...] = ()
    waste_max: float = 0.5


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests of one version may be joined."""

    enabled: bool = True
    max_batch_size: int = 32
    """The most rows in one batch; larger requests are split."""
    batch_timeout_ms: float = 50.0
    """The longest that a request waits for others."""
    target_latency_ms: float = 0.0
    """The latency to keep at the 95th percentile; 0: none stated."""
    padding: Padding | None = None
    """None: only requests of the same sizes share a batch."""


class Protocol(StrEnum):
    """What a server is spoken to by; see `infermesh.common.v1.Backend`."""

    MESH = ""
    OIP_REST = "oip-rest"
    OIP_GRPC = "oip-grpc"
    TENSORFLOW_REST = "tensorflow-rest"
    TENSORFLOW_GRPC = "tensorflow-grpc"
    TORCHSERVE = "torchserve"

    @property
    def over_grpc(self) -> bool:
        """Whether it is the server's gRPC address that is used."""
        return self in (Protocol.OIP_GRPC, Protocol.TENSORFLOW_GRPC)


@dataclass(frozen=True, slots=True)
class Backend:
    """One place that can run a version."""

    backend_id: str
    http_address: str
    grpc_address: str
    server_model_name: str
    capacity: float = 1.0
    protocol: Protocol = Protocol.MESH
    server_model_version: str = ""
    """Empty: the server's choice."""
    signature_name: str = ""
    """Empty: the server's default."""
    credentials: str = ""
    """What it is shown, as "team/name"; empty: nothing."""

    @property
    def address(self) -> str:
        """host:port that batches are sent to."""
        return self.grpc_address if self.protocol.over_grpc else self.http_address

    @property
    def server(self) -> str:
        """The server, as one word: its address, behind the protocol where that is not the mesh's own, and before what
        it is shown: teams that show one server different credentials share no connection."""
        if not self.protocol:
            return self.http_address
        return f"{self.protocol}://{self.address}" + (f"#{self.credentials}" if self.credentials else "")

    @property
    def server_model(self) -> tuple[str, str, str]:
        """What that server is asked for: model, version, signature."""
        return (self.server_model_name, self.server_model_version, self.signature_name)


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version that may receive requests: it is loaded, or it is `cold`."""

    model_name: str
    version: str
    deployment_name: str
    schema: ModelSchema
    mapping: PredictionMapping = field(default_factory=PredictionMapping)
    batching: Batching = field(default_factory=Batching)
    backends: tuple[Backend, ...] = ()
    deterministic: bool = False
    artifact_digest: str = ""
    team: str = ""
    feature_views: tuple[FeatureView, ...] = ()
    """Features that are added from a feature store."""
    reference_digest: str = ""
    """SHA-256 of the sample that explanations are made against; empty: there is none."""
    gpus: float = 0.0
    """That one replica of the deployment has."""
    cold: bool = False
    """It is deployed and not loaded: it has no backends, and whoever has a request for it has it loaded."""


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """How the answer of a shadow copy is compared; see `infermesh.common.v1.ShadowComparison`."""

    method: str = ""
    """"label", "top_k" or "tolerance"; empty: "label" where both versions have classes, else "tolerance"."""
    top_k: int = 5
    absolute_tolerance: float = 1e-6
    relative_tolerance: float = 1e-3


@dataclass(frozen=True, slots=True)
class ShadowTarget:
    """A version that gets copies of a model's requests."""

    version: str
    percent: int
    """How much of the traffic is copied. 1 to 100."""
    comparison: ShadowComparison = field(default_factory=ShadowComparison)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """All that is served of one model."""

    model_name: str
    default_version: str
    versions: Mapping[str, ServedVersion]
    team: str = ""
    shadows: tuple[ShadowTarget, ...] = ()
    """Each version once."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The version that each stands for."""
    log_labels: bool = False
    """Whether the prediction log says what was predicted for each row."""
    shared_with: tuple[str, ...] = ()
    """Teams that may call it without owning it."""


@dataclass(frozen=True, slots=True)
class ServingTable:
    """All that is served, at one revision. A change makes a new table; requests in flight keep the version they got."""

    revision: int = 0
    models: Mapping[str, ServedModel] = field(default_factory=dict)
