"""A deployment as a value: what is wished, what is known of the version, what has come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.common.feature_view import FeatureView
from services.common.names import backend_model_name
from services.common.schema import ModelSchema, PredictionMapping
from services.deployer.domain.external import ExternalBackend

EVICTED = "Evicted"
"""The reason of the condition Asleep where others need the memory."""
LOCAL = "local"
"""The cluster of the model servers that the deployer loads versions into itself."""
RETIRED_IDLE_S = 10.0
"""An older version that is to be unloaded waits for so long without a request, in seconds."""


class Status(StrEnum):
    """How far a deployment is. The proto documents each."""

    PENDING = "pending"
    DEPLOYING = "deploying"
    ACTIVE = "active"
    FAILED = "failed"
    TERMINATING = "terminating"


class Health(StrEnum):
    """How many of the wanted replicas answer: all, some, none."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Resources:
    """What each replica may use. Quantities as in Kubernetes; empty: no limit."""

    replicas: int = 1
    cpu: str = ""
    memory: str = ""
    gpu: int = 0
    gpu_sharing: str = ""


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """How the number of replicas follows the load. A target of 0 is none."""

    enabled: bool = False
    min_replicas: int = 1
    max_replicas: int = 10
    target_cpu_percent: float = 0.0
    target_gpu_percent: float = 0.0
    target_latency_ms: float = 0.0
    target_requests_per_sec: float = 0.0
    target_concurrency: float = 0.0
    target_queue_depth: float = 0.0
    scale_down_stabilization_s: int = 300
    idle_timeout_s: int = 900
    predictive: bool = False


@dataclass(frozen=True, slots=True)
class Padding:
    """How requests that differ in the sizes of variable dimensions share a batch; see `infermesh.common.v1.Padding`."""

    value: float = 0.0
    input_values: Mapping[str, float] = field(default_factory=dict)
    lengths_input: str = ""
    trim_outputs: tuple[str, ...] = ()
    waste_max: float = 0.5


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are joined. `target_latency_ms` None: that of the autoscaling. `padding` None: only requests of the
    same sizes."""

    enabled: bool = True
    max_batch_size: int = 32
    batch_timeout_ms: float = 50.0
    target_latency_ms: float | None = None
    padding: Padding | None = None


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How a model server runs the version. `threads` 0: the deployer's default."""

    precision: str = ""
    accuracy_drop_max: float = 0.01
    instances: int = 1
    threads: int = 0
    pinned: bool = False
    deterministic: bool = False
    bake_time_s: int = 0


@dataclass(frozen=True, slots=True)
class ObjectWish:
    """What a deployment's object in a cluster asks for beside all that the mesh's API changes."""

    restarted_at: str = ""
    """When somebody last asked for all replicas to be made anew, as it is written there; empty: nobody has."""
    traffic_split: Mapping[str, int] = field(default_factory=dict)
    """The shares that it states, as it states them. Handed to the router once for each change of them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wished of a deployment, and may change."""

    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    batching: Batching = Batching()
    serving: ServingOptions = ServingOptions()
    external: ExternalBackend | None = None
    """The servers that run it, where the deployer does not."""
    of_object: ObjectWish = ObjectWish()
    """Of a deployment in a cluster alone."""

    @property
    def target_latency_ms(self) -> float:
        """The latency that batching must keep at the 95th percentile; 0: none stated."""
        if self.batching.target_latency_ms is not None:
            return self.batching.target_latency_ms
        return self.autoscaling.target_latency_ms if self.autoscaling else 0.0

    @property
    def idle_timeout_s(self) -> float | None:
        """For how long nobody must have asked for it before it may be unloaded; None: it never is."""
        scaling = self.autoscaling
        if scaling is None or not scaling.enabled or scaling.min_replicas > 0 or self.serving.pinned:
            return None
        return float(scaling.idle_timeout_s)

    def instances(self, replicas: int) -> int:
        """Copies of the model on a model server that has so many of the replicas: each is a process within it."""
        return replicas * max(1, self.serving.instances)


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """A deployment about to be made."""

    model_name: str
    version: str
    deployment_name: str
    wish: Wish
    environment: str = "prod"
    cluster: str = LOCAL
    namespace: str = "default"
    traffic_split: Mapping[str, int] = field(default_factory=dict)
    request_id: str = ""
    created_by: str = ""
    team: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the registry says of a version, and all that loading it needs. It never changes: versions are immutable."""

    framework: str
    artifact_path: str
    artifact_digest: str
    schema: ModelSchema
    mapping: PredictionMapping
    team: str = ""
    artifact_kind: str = "file"
    """How the artifact is packed: "file", "directory" or "tar.gz"."""
    stage: str = ""
    """The version's stage when it was deployed; an archived one may not be."""
    feature_views: tuple[FeatureView, ...] = ()
    """What batchers add from a feature store."""
    reference_digest: str = ""
    """What batchers explain predictions against; empty: nothing."""
    signature_verified: bool = False
    """Whether the artifact had, when it was deployed, a signature of a signer whom the team trusts."""
    framework_version: str = ""
    """The framework's version that wrote the artifact; empty: not known."""
    requirements: tuple[str, ...] = ()
    """What the version's metadata says that it needs, as lines that pip reads."""
    artifact_bytes: int = 0
    """The size of the artifact; 0: not known."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known about one step."""

    type: str
    status: bool
    reason: str
    message: str
    last_transition_time: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a deployment does not answer: a Reason's name, and a sentence with the next step."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What has come of a deployment. Only the reconcile loop changes it."""

    status: Status = Status.PENDING
    health: Health = Health.UNHEALTHY
    observed_generation: int = 0
    loaded: Mapping[str, str] = field(default_factory=dict)
    """Model server → fingerprint of the package that answered a trial prediction there."""
    ready_replicas: int = 0
    failure: Failure | None = None
    conditions: tuple[Condition, ...] = ()
    attempts: int = 0
    """Failed attempts since the last success or change of the wish."""
    next_attempt_at: datetime | None = None
    load_time_ms: float = 0.0
    memory_bytes: float = 0.0
    """What one replica was seen to take; 0: not measured."""
    deployed_at: datetime | None = None
    withdrawn_at: datetime | None = None
    """When it was taken out of what is published, so that it drains. Set while it is being removed, or has no
    replicas."""
    traffic_routed: bool = False
    """The split asked for at creation was handed on, or given up."""
    asleep_since: datetime | None = None
    """Since when it is unloaded, or about to be, because nobody asks for it or others need the memory. It is published
    as cold; None: it is awake."""
    replicas: int | None = None
    """What autoscaling made of the replicas that are wished; None: nothing yet."""
    warm_until: datetime | None = None
    """Of an older version: until when it stays loaded, now that the newer one has taken over; None: it has not yet."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as it is stored."""

    deployment_id: str
    new: NewDeployment
    recipe: Recipe
    wish: Wish
    progress: Progress
    generation: int
    created_at: datetime
    updated_at: datetime
    deleting: bool = False
    successor: str = ""
    """Set on an older version: the id of the deployment that has another version now. It keeps its name."""
    previous_version: str = ""
    """The version whose traffic this one takes over; empty: none, it is the deployment's first."""
    split_generation: int = 0
    """The generation that asked for the shares of `new.traffic_split`; 0: the deployment was made with them, or has
    gone over to another version since."""

    @property
    def server_model_name(self) -> str:
        """The name under which model servers know it."""
        return backend_model_name(self.new.model_name, self.new.version)

    @property
    def etag(self) -> str:
        """Changes whenever the wish does."""
        return f"{self.deployment_id[:8]}-{self.generation}{'-deleting' if self.deleting else ''}"

    @property
    def replicas(self) -> int:
        """How many replicas are wanted now: what autoscaling made of them, else what is wished."""
        if self.wish.external is not None:
            return len(self.wish.external.addresses)
        return self.progress.replicas or self.wish.resources.replicas

    @property
    def clustered(self) -> bool:
        """Whether it runs in a Kubernetes cluster, where others make and scale its replicas."""
        return self.new.cluster != LOCAL

    @property
    def evicted(self) -> bool:
        """Whether it sleeps because it made room for others. What is pinned since does not."""
        asleep = self.progress.asleep_since is not None and not self.pinned
        return asleep and any(one.type == "Asleep" and one.reason == EVICTED for one in self.progress.conditions)

    @property
    def pinned(self) -> bool:
        """Whether it never makes room for others. What a newer version has taken over from may."""
        return self.wish.serving.pinned and self.progress.warm_until is None

    @property
    def halted(self) -> bool:
        """Whether nothing of it shall be loaded until somebody scales it up."""
        return self.wish.resources.replicas == 0

    @property
    def idle_timeout_s(self) -> float | None:
        """For how long nobody must have asked for it before it may be unloaded; None: it never is. What a newer
        version has taken over from is not held by the wish any more."""
        return self.wish.idle_timeout_s if self.progress.warm_until is None else RETIRED_IDLE_S

    @property
    def settled(self) -> bool:
        """Whether the current wish is carried out or has failed."""
        done = self.progress.status in (Status.ACTIVE, Status.FAILED)
        return done and self.progress.observed_generation == self.generation


def with_condition(
    conditions: tuple[Condition, ...], kind: str, *, status: bool, reason: str, message: str, now: datetime
) -> tuple[Condition, ...]:
    """`conditions` with the one of type `kind` set. Its transition time moves only when its status does."""
    before = next((one for one in conditions if one.type == kind), None)
    moved = now if before is None or before.status != status else before.last_transition_time
    after = Condition(kind, status, reason, message, moved)
    if before is None:
        return (*conditions, after)
    return tuple(after if one.type == kind else one for one in conditions)
