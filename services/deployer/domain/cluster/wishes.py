"""A wish between a deployment's form and the `spec` of a ModelDeployment. Each says all that the other says, but for
`vertical`, which is left to whoever writes objects by hand."""

from collections.abc import Mapping
from datetime import UTC, datetime

from services.common.body import Body, at, flag, items, number, table, text, whole
from services.deployer.domain.deployment import (
    Autoscaling,
    Batching,
    ObjectWish,
    Padding,
    Resources,
    ServingOptions,
    Wish,
)


def spec_of(wish: Wish) -> dict[str, object]:
    """The part of a `spec` that may change, but for the version."""
    spec: dict[str, object] = {
        "resources": _resources(wish.resources),
        "batching": _batching(wish.batching),
        "serving": _serving(wish.serving),
    }
    if wish.autoscaling is not None:
        spec["autoscaling"] = _autoscaling(wish.autoscaling)
    asked = wish.of_object
    if asked.restarted_at:
        spec["restartedAt"] = asked.restarted_at
    if asked.traffic_split:
        spec["trafficSplit"] = dict(asked.traffic_split)
    return spec


def restart_mark(now: datetime) -> str:
    """A moment as `restartedAt` says it, in RFC 3339: to the microsecond, so that two restarts are never one."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def wish_of(spec: Body) -> Wish:
    """What a `spec` asks for; what it leaves out is the default, as the API server would fill it in."""
    scaling = at(spec, "autoscaling")
    return Wish(
        resources=_read_resources(table(spec, "resources")),
        autoscaling=_read_autoscaling(table(spec, "autoscaling")) if isinstance(scaling, Mapping) else None,
        batching=_read_batching(table(spec, "batching")),
        serving=_read_serving(table(spec, "serving")),
        of_object=ObjectWish(
            restarted_at=text(spec, "restartedAt"),
            traffic_split={version: whole(spec, "trafficSplit", version) for version in table(spec, "trafficSplit")},
        ),
    )


def _resources(one: Resources) -> Body:
    found: dict[str, object] = {"replicas": one.replicas, "gpu": one.gpu, "gpuSharing": one.gpu_sharing}
    # There "" is no quantity: without a limit the field is absent.
    return found | {name: value for name, value in (("cpu", one.cpu), ("memory", one.memory)) if value}


def _read_resources(said: Body) -> Resources:
    return Resources(
        replicas=whole(said, "replicas", default=1),
        cpu=_quantity(said, "cpu"),
        memory=_quantity(said, "memory"),
        gpu=whole(said, "gpu"),
        gpu_sharing=text(said, "gpuSharing"),
    )


def _quantity(said: Body, name: str) -> str:
    """A quantity, which YAML may have made a number."""
    found = said.get(name)
    return "" if found is None else str(found)


def _autoscaling(one: Autoscaling) -> Body:
    return {
        "enabled": one.enabled,
        "minReplicas": one.min_replicas,
        "maxReplicas": one.max_replicas,
        "targetCpuPercent": one.target_cpu_percent,
        "targetGpuPercent": one.target_gpu_percent,
        "targetLatencyMs": one.target_latency_ms,
        "targetRequestsPerSec": one.target_requests_per_sec,
        "targetConcurrency": one.target_concurrency,
        "targetQueueDepth": one.target_queue_depth,
        "scaleDownStabilizationSeconds": one.scale_down_stabilization_s,
        "idleTimeoutSeconds": one.idle_timeout_s,
        "predictive": one.predictive,
    }


def _read_autoscaling(said: Body) -> Autoscaling:
    return Autoscaling(
        enabled=flag(said, "enabled", default=True),
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
        predictive=flag(said, "predictive"),
    )


def _batching(one: Batching) -> Body:
    found: dict[str, object] = {
        "enabled": one.enabled,
        "maxBatchSize": one.max_batch_size,
        "batchTimeoutMs": one.batch_timeout_ms,
    }
    if one.target_latency_ms is not None:
        found["targetLatencyMs"] = one.target_latency_ms
    if one.padding is not None:
        padding = one.padding
        found["padding"] = {
            "value": padding.value,
            "inputValues": dict(padding.input_values),
            "lengthsInput": padding.lengths_input,
            "trimOutputs": list(padding.trim_outputs),
            "wasteMax": padding.waste_max,
        }
    return found


def _read_batching(said: Body) -> Batching:
    latency = at(said, "targetLatencyMs")
    return Batching(
        enabled=flag(said, "enabled", default=True),
        max_batch_size=whole(said, "maxBatchSize", default=32),
        batch_timeout_ms=number(said, "batchTimeoutMs", default=50.0),
        target_latency_ms=number(said, "targetLatencyMs") if latency is not None else None,
        padding=_read_padding(table(said, "padding")) if isinstance(at(said, "padding"), Mapping) else None,
    )


def _read_padding(said: Body) -> Padding:
    values = table(said, "inputValues")
    return Padding(
        value=number(said, "value"),
        input_values={name: number(values, name) for name in values},
        lengths_input=text(said, "lengthsInput"),
        trim_outputs=tuple(one for one in items(said, "trimOutputs") if isinstance(one, str)),
        waste_max=number(said, "wasteMax", default=0.5),
    )


def _serving(one: ServingOptions) -> Body:
    return {
        "precision": one.precision,
        "accuracyDropMax": one.accuracy_drop_max,
        # 0 is 1 in the API, and 1 alone is said to the cluster.
        "instances": max(1, one.instances),
        "threads": one.threads,
        "pinned": one.pinned,
        "deterministic": one.deterministic,
        "bakeTimeSeconds": one.bake_time_s,
    }


def _read_serving(said: Body) -> ServingOptions:
    return ServingOptions(
        precision=text(said, "precision"),
        accuracy_drop_max=number(said, "accuracyDropMax", default=0.01),
        instances=max(1, whole(said, "instances", default=1)),
        threads=whole(said, "threads"),
        pinned=flag(said, "pinned"),
        deterministic=flag(said, "deterministic"),
        bake_time_s=whole(said, "bakeTimeSeconds"),
    )
