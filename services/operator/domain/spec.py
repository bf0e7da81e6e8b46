"""A ModelDeployment as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.body import Body, flag, name_of, namespace_of, number, table, text, whole
from services.common.errors import FieldViolation, invalid_fields
from services.common.names import check_model_name, check_version
from services.common.quantity import parse_quantity


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
    vertical: str = ""
    predictive: bool = False

    @property
    def to_zero(self) -> bool:
        """Whether an idle version is unloaded altogether."""
        return self.min_replicas == 0


@dataclass(frozen=True, slots=True)
class Serving:
    """How a version is run. What batching asks for is the batcher's affair and no part of what is made here."""

    precision: str = ""
    accuracy_drop_max: float = 0.01
    instances: int = 1
    threads: int = 0
    bake_time_s: int = 0


@dataclass(frozen=True, slots=True)
class ModelDeployment:
    """What is wished, and of which object."""

    name: str
    namespace: str
    uid: str
    generation: int
    model_name: str
    version: str
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    """None: the number of replicas is the one that is wished."""
    serving: Serving = Serving()
    traffic_split: Mapping[str, int] = field(default_factory=dict)
    restarted_at: str = ""
    """When somebody last asked for all replicas to be made anew; empty: nobody has."""

    @property
    def replicas_first(self) -> int:
        """With how many replicas a version begins."""
        wished, scaling = self.resources.replicas, self.autoscaling
        if scaling is None:
            return wished
        # One that may sleep begins awake: whoever made it wants to know that it answers.
        return min(max(wished, scaling.min_replicas, 1), scaling.max_replicas)

    @property
    def replicas_max(self) -> int:
        """The most replicas that there may be of one version, a change apart."""
        return self.replicas_first if self.autoscaling is None else self.autoscaling.max_replicas


def read_spec(body: Body) -> ModelDeployment:
    """What an object says. Raises INVALID_FIELD, naming all that the API server's own checks let through."""
    spec = table(body, "spec")
    found = ModelDeployment(
        name=name_of(body),
        namespace=namespace_of(body),
        uid=text(body, "metadata", "uid"),
        generation=whole(body, "metadata", "generation"),
        model_name=text(spec, "modelName"),
        version=text(spec, "version"),
        resources=_resources(table(spec, "resources")),
        autoscaling=_autoscaling(table(spec, "autoscaling")),
        serving=_serving(table(spec, "serving")),
        traffic_split={version: whole(spec, "trafficSplit", version) for version in table(spec, "trafficSplit")},
        restarted_at=text(spec, "restartedAt"),
    )
    check_model_name(found.model_name, "spec.modelName")
    check_version(found.version, "spec.version")
    violations = [
        FieldViolation(
            f"spec.resources.{name}", f'is {said!r}; allowed: a quantity above 0 such as "4", "500m" or "16Gi"'
        )
        for name, said in (("cpu", found.resources.cpu), ("memory", found.resources.memory))
        if said and not parse_quantity(said)
    ]
    if violations:
        raise invalid_fields(violations)
    return found


def _resources(said: Body) -> Resources:
    return Resources(
        replicas=whole(said, "replicas", default=1),
        cpu=_quantity(said, "cpu"),
        memory=_quantity(said, "memory"),
        gpu=whole(said, "gpu"),
        gpu_sharing=text(said, "gpuSharing"),
    )


def _quantity(said: Body, field_name: str) -> str:
    """A quantity, which YAML may have made a number."""
    found = said.get(field_name)
    return "" if found is None else str(found)


def _autoscaling(said: Body) -> Autoscaling | None:
    if not said or not flag(said, "enabled", default=True):
        return None
    return Autoscaling(
        min_replicas=whole(said, "minReplicas", default=1),
        max_replicas=whole(said, "maxReplicas", default=10),
        target_cpu_percent=number(said, "targetCpuPercent"),
        target_gpu_percent=number(said, "targetGpuPercent"),
        target_latency_ms=number(said, "targetLatencyMs"),
        target_requests_per_sec=number(said, "targetRequestsPerSec"),
        target_concurrency=number(said, "targetConcurrency"),
        target_queue_depth=number(said, "targetQueueDepth"),
        scale_down_stabilization_s=whole(said, "scaleDownStabilizationSeconds", default=300),
        idle_timeout_s=whole(said, "idleTimeoutSeconds", default=900),
        vertical=text(said, "vertical"),
        predictive=flag(said, "predictive"),
    )


def _serving(said: Body) -> Serving:
    return Serving(
        precision=text(said, "precision"),
        accuracy_drop_max=number(said, "accuracyDropMax", default=0.01),
        instances=max(1, whole(said, "instances", default=1)),
        threads=whole(said, "threads"),
        bake_time_s=whole(said, "bakeTimeSeconds"),
    )
