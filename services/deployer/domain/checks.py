"""What a wish may say. Everything wrong is found at once, so that a caller mends it in one round."""

import math
from collections.abc import Callable, Mapping

from services.common.errors import FieldViolation, MeshError, Reason, invalid, invalid_fields, shown
from services.common.names import check_deployment_name, check_model_name, check_version
from services.common.quantity import parse_quantity
from services.deployer.domain.deployment import LOCAL, NewDeployment, Recipe, Wish
from services.deployer.domain.equipment import CPUS_ALONE, Equipment, check_devices
from services.deployer.domain.external import violations_of
from services.deployer.domain.scaling import acts

ENVIRONMENTS = ("prod", "staging", "dev")
REPLICAS_MAX = 1000
_REQUEST_ID_LENGTH_MAX = 128
_DAY_S = 86_400


class _Violations:
    def __init__(self) -> None:
        self.found: list[FieldViolation] = []

    def unless(self, holds: bool, field: str, value: object, allowed: str) -> None:
        if not holds:
            self.found.append(FieldViolation(field, f"is {shown(value)}; allowed: {allowed}"))

    def within(self, field: str, value: float, low: float, high: float) -> None:
        self.unless(math.isfinite(value) and low <= value <= high, field, value, f"{low:g} to {high:g}")

    def name(self, check: Callable[[], object]) -> None:
        try:
            check()
        except MeshError as error:
            self.found.extend(error.violations)


def check_new(new: NewDeployment, *, local_replicas_max: int, equipment: Equipment = CPUS_ALONE) -> None:
    """Raises INVALID_FIELD naming all that is wrong, WEIGHTS_INVALID, or NOT_IMPLEMENTED for what this
    machine's model servers cannot run. What a cluster can run its API server says itself."""
    violations = _Violations()
    violations.name(lambda: check_model_name(new.model_name))
    violations.name(lambda: check_deployment_name(new.deployment_name))
    violations.unless(
        new.environment in ENVIRONMENTS, "environment", new.environment, "one of " + ", ".join(ENVIRONMENTS)
    )
    length = len(new.request_id)
    violations.unless(
        length <= _REQUEST_ID_LENGTH_MAX, "request_id", new.request_id, f"at most {_REQUEST_ID_LENGTH_MAX} characters"
    )
    _wish(violations, new.wish)
    if violations.found:
        raise invalid_fields(violations.found)
    if new.cluster != LOCAL and new.wish.external is not None:
        raise invalid(
            "external_backend", "given", f"absent with cluster {shown(new.cluster)}: servers are asked from here"
        )
    check_split(new.traffic_split)
    if new.cluster == LOCAL:
        check_runnable(new.wish, local_replicas_max=local_replicas_max, equipment=equipment)


def check_stage(new: NewDeployment, recipe: Recipe) -> None:
    """Raises VERSION_ARCHIVED where the registry says that the version may not be deployed."""
    if recipe.stage == "archived":
        raise MeshError(
            Reason.VERSION_ARCHIVED,
            f"{new.version} of model {new.model_name!r} is archived; set its stage to active or deploy another version",
            metadata={"model_name": new.model_name, "version": new.version},
        )


def check_signature(new: NewDeployment, recipe: Recipe, *, required: bool) -> None:
    """Raises SIGNATURE_REQUIRED where the team deploys signed versions alone and this one is not."""
    if required and not recipe.signature_verified:
        raise MeshError(
            Reason.SIGNATURE_REQUIRED,
            f"team {recipe.team!r} deploys only versions with a verified signature, and {new.version} of model "
            f"{new.model_name!r} has none; register a version with its signature",
            metadata={"model_name": new.model_name, "version": new.version},
        )


def check_wish(wish: Wish, *, local_replicas_max: int, equipment: Equipment = CPUS_ALONE, cluster: str = LOCAL) -> None:
    """As `check_new`, for a change."""
    violations = _Violations()
    _wish(violations, wish)
    if violations.found:
        raise invalid_fields(violations.found)
    check_split(wish.of_object.traffic_split)
    if cluster == LOCAL:
        check_runnable(wish, local_replicas_max=local_replicas_max, equipment=equipment)


def check_split(split: Mapping[str, int]) -> None:
    """Raises where a split is neither empty nor whole percentages of versions that add up to 100."""
    for version in split:
        check_version(version, f"traffic_split[{version!r}]")
    if split and (sum(split.values()) != 100 or any(not 0 <= weight <= 100 for weight in split.values())):
        raise MeshError(
            Reason.WEIGHTS_INVALID,
            f"traffic_split is {dict(split)}, which adds up to {sum(split.values())}; "
            "give whole percentages from 0 to 100 that add up to 100",
        )


def check_runnable(wish: Wish, *, local_replicas_max: int, equipment: Equipment = CPUS_ALONE) -> None:
    """Raises where a well-formed wish asks for something that local model servers cannot do."""
    check_devices(wish, equipment)
    scaling = wish.autoscaling
    for field, replicas in (
        ("resources.replicas", wish.resources.replicas),
        ("autoscaling.max_replicas", scaling.max_replicas if scaling is not None and acts(scaling) else 0),
    ):
        if wish.instances(replicas) > local_replicas_max:
            allowed = f"at most {local_replicas_max} copies (replicas times serving.instances) on one machine"
            raise invalid(field, replicas, allowed)


def _wish(violations: _Violations, wish: Wish) -> None:
    resources, serving, batching = wish.resources, wish.serving, wish.batching
    violations.within("resources.replicas", resources.replicas, 0, REPLICAS_MAX)
    for field, value in (("resources.cpu", resources.cpu), ("resources.memory", resources.memory)):
        fits = not value or parse_quantity(value) is not None
        violations.unless(fits, field, value, 'a quantity such as "4", "500m" or "16Gi"')
    violations.within("resources.gpu", resources.gpu, 0, 16)
    sharing = ("", "mps", "time-slicing")
    violations.unless(
        resources.gpu_sharing in sharing, "resources.gpu_sharing", resources.gpu_sharing, 'empty, "mps", "time-slicing"'
    )
    violations.within("batching.max_batch_size", batching.max_batch_size, 1, 65_536)
    violations.within("batching.batch_timeout_ms", batching.batch_timeout_ms, 0, 10_000)
    violations.within("batching.target_latency_ms", batching.target_latency_ms or 0, 0, 600_000)
    precisions = ("", "fp32", "fp16", "int8")
    violations.unless(
        serving.precision in precisions, "serving.precision", serving.precision, 'empty, "fp32", "fp16", "int8"'
    )
    violations.within("serving.accuracy_drop_max", serving.accuracy_drop_max, 0, 1)
    violations.within("serving.instances", serving.instances, 0, 64)
    violations.within("serving.threads", serving.threads, 0, 256)
    violations.within("serving.bake_time_s", serving.bake_time_s, 0, 7 * _DAY_S)
    if wish.autoscaling is not None:
        _autoscaling(violations, wish)
    if wish.external is not None:
        violations.found.extend(violations_of(wish.external))
        _external(violations, wish)


def _external(violations: _Violations, wish: Wish) -> None:
    """What has no meaning for servers that somebody else runs."""
    why = "with external_backend, whose servers are their owner's to size and to scale"
    resources, serving = wish.resources, wish.serving
    violations.unless(resources.replicas == 1, "resources.replicas", resources.replicas, f"1 or absent {why}")
    for field in ("cpu", "memory", "gpu", "gpu_sharing"):
        value = getattr(resources, field)
        violations.unless(not value, f"resources.{field}", value, f"absent {why}")
    scaling = wish.autoscaling
    scales = scaling is not None and scaling.enabled
    violations.unless(
        not scales, "autoscaling.enabled", scales, f"absent {why}: there is nothing to scale, nor to unload"
    )
    violations.unless(serving.precision in {"", "fp32"}, "serving.precision", serving.precision, f"absent {why}")
    violations.unless(serving.instances <= 1, "serving.instances", serving.instances, f"absent {why}")
    violations.unless(serving.threads == 0, "serving.threads", serving.threads, f"absent {why}")


def _autoscaling(violations: _Violations, wish: Wish) -> None:
    scaling = wish.autoscaling
    assert scaling is not None
    violations.within("autoscaling.max_replicas", scaling.max_replicas, 1, REPLICAS_MAX)
    violations.within("autoscaling.min_replicas", scaling.min_replicas, 0, scaling.max_replicas)
    violations.within("autoscaling.target_cpu_percent", scaling.target_cpu_percent, 0, 100)
    violations.within("autoscaling.target_gpu_percent", scaling.target_gpu_percent, 0, 100)
    violations.within("autoscaling.target_latency_ms", scaling.target_latency_ms, 0, 600_000)
    for field in ("target_requests_per_sec", "target_concurrency", "target_queue_depth"):
        violations.within(f"autoscaling.{field}", getattr(scaling, field), 0, 1e9)
    violations.within("autoscaling.scale_down_stabilization_s", scaling.scale_down_stabilization_s, 0, 3600)
    violations.within("autoscaling.idle_timeout_s", scaling.idle_timeout_s, 0, 7 * _DAY_S)
