"""How many replicas there are: by the load, from zero where that is asked for, and never fewer than one at a time.

SPEC.md's windows: up at once, by 100 % every 15 s; down after 300 s of less load, by 50 % every 60 s. What batchers
count comes as external metrics, named and labelled as in Prometheus; a metrics adapter, or KEDA itself, hands it on.
"""

from collections.abc import Mapping

from services.operator.domain.manifests.parts import Manifest, workload_metadata
from services.operator.domain.names import selector, workload_name
from services.operator.domain.options import ClusterOptions
from services.operator.domain.spec import Autoscaling, ModelDeployment

REQUESTS, IN_FLIGHT, QUEUE, LATENCY, GPU = (
    "model_requests_per_second",
    "model_active_requests",
    "model_queue_depth",
    "model_latency_p95_ms",
    "model_gpu_utilization",
)
_KEDA_POLLING_S = 2
"""A request that wakes a version waits at its batcher meanwhile."""
_RATE_WINDOW = "1m"
_NEVER = 1e9
"""A threshold that nothing reaches."""


def queries(model: str, version: str) -> Mapping[str, str]:
    """What Prometheus is asked, in terms of what batchers expose, by the names that autoscalers have for it. A metrics
    adapter has to answer its external metrics by the same."""
    of = f'{{model="{model}",version="{version}"}}'
    return {
        REQUESTS: f"sum(rate(model_requests_total{of}[{_RATE_WINDOW}]))",
        IN_FLIGHT: f"sum(model_requests_waiting{of}) + sum(model_requests_in_flight{of})",
        QUEUE: f"sum(model_requests_waiting{of})",
        LATENCY: f"max(model_latency_p95_ms{of})",
    }


def budget(wish: ModelDeployment) -> Manifest:
    """Evictions take one replica at a time, and any that does not answer anyway."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": workload_metadata(wish),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(selector(wish.name, wish.version))},
        },
    }


def horizontal(wish: ModelDeployment, scaling: Autoscaling, floor: int) -> Manifest:
    """The HorizontalPodAutoscaler of the version that is wished. `floor`: the fewest replicas, by the forecast."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": workload_metadata(wish),
        "spec": {
            "scaleTargetRef": _target(wish),
            "minReplicas": replicas_min(scaling, floor),
            "maxReplicas": scaling.max_replicas,
            "behavior": _behavior(scaling),
            "metrics": [*_resource_metrics(scaling), *_external_metrics(wish, scaling)],
        },
    }


def replicas_min(scaling: Autoscaling, floor: int) -> int:
    """The fewest replicas of what is awake: a forecast, which is within the most, raises what was wished."""
    return max(1, scaling.min_replicas, floor)


def scaled_object(wish: ModelDeployment, scaling: Autoscaling, options: ClusterOptions, floor: int) -> Manifest:
    """KEDA's ScaledObject, which makes the HorizontalPodAutoscaler itself and goes to zero and back. `floor`: the
    fewest replicas while it is awake, by the forecast."""
    least: dict[str, object] = {"minReplicaCount": 0}
    if replicas_min(scaling, floor) > 1:
        # What sleeps is woken by its first request, and not by a forecast.
        least = {"minReplicaCount": replicas_min(scaling, floor), "idleReplicaCount": 0}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": workload_metadata(wish),
        "spec": {
            "scaleTargetRef": _target(wish),
            **least,
            "maxReplicaCount": scaling.max_replicas,
            "pollingInterval": _KEDA_POLLING_S,
            "cooldownPeriod": scaling.idle_timeout_s,
            # What a new version begins with stands until it was idle for once.
            "initialCooldownPeriod": scaling.idle_timeout_s,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
            "triggers": _triggers(wish, scaling, options),
        },
    }


def vertical(wish: ModelDeployment, scaling: Autoscaling) -> Manifest:
    """The VerticalPodAutoscaler: what a replica needs, and where asked for, given to replicas that start."""
    return {
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": workload_metadata(wish),
        "spec": {
            "targetRef": _target(wish),
            # Never by evicting: a replica that answers is not restarted for its size.
            "updatePolicy": {"updateMode": "Initial" if scaling.vertical == "apply" else "Off"},
            "resourcePolicy": {
                "containerPolicies": [
                    {"containerName": "triton", "controlledResources": ["cpu", "memory"]},
                    {"containerName": "*", "mode": "Off"},
                ]
            },
        },
    }


def _target(wish: ModelDeployment) -> Mapping[str, object]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload_name(wish.name, wish.version)}


def _behavior(scaling: Autoscaling) -> Mapping[str, object]:
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": scaling.scale_down_stabilization_s,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }


def _resource_metrics(scaling: Autoscaling) -> list[Mapping[str, object]]:
    if not scaling.target_cpu_percent:
        return []
    # Of the container alone that serves: what fetches is done long ago.
    resource = {
        "name": "cpu",
        "container": "triton",
        "target": {"type": "Utilization", "averageUtilization": max(1, round(scaling.target_cpu_percent))},
    }
    return [{"type": "ContainerResource", "containerResource": resource}]


def _external_metrics(wish: ModelDeployment, scaling: Autoscaling) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    if scaling.target_gpu_percent:
        target = {"type": "AverageValue", "averageValue": _quantity(scaling.target_gpu_percent)}
        found.append({"type": "Pods", "pods": {"metric": {"name": GPU}, "target": target}})
    labels = {"model": wish.model_name, "version": wish.version}
    for metric, wanted, kind in (
        (REQUESTS, scaling.target_requests_per_sec, "AverageValue"),
        (IN_FLIGHT, scaling.target_concurrency, "AverageValue"),
        (QUEUE, scaling.target_queue_depth, "AverageValue"),
        (LATENCY, scaling.target_latency_ms, "Value"),
    ):
        if wanted:
            target = {"type": kind, "averageValue" if kind == "AverageValue" else "value": _quantity(wanted)}
            metric_of = {"name": metric, "selector": {"matchLabels": labels}}
            found.append({"type": "External", "external": {"metric": metric_of, "target": target}})
    return found


def _triggers(wish: ModelDeployment, scaling: Autoscaling, options: ClusterOptions) -> list[Mapping[str, object]]:
    """What keeps it awake comes first, whatever its targets are: somebody who waits, also for a version that is not
    loaded, or is being answered; and, as a gauge misses most of what is answered between two scrapes, answers."""
    asked = queries(wish.model_name, wish.version)
    wanted_by: list[tuple[str, float, str]] = [
        (IN_FLIGHT, scaling.target_concurrency or _NEVER, "AverageValue"),
        (REQUESTS, scaling.target_requests_per_sec or _NEVER, "AverageValue"),
        (QUEUE, scaling.target_queue_depth, "AverageValue"),
        (LATENCY, scaling.target_latency_ms, "Value"),
    ]
    triggers: list[Mapping[str, object]] = [
        {
            "type": "prometheus",
            "metricType": kind,
            "metadata": {
                "serverAddress": options.prometheus_url,
                "query": asked[metric],
                "threshold": f"{wanted:.12g}",
                # A slow answer of long ago wakes nothing.
                "activationThreshold": "0" if metric != LATENCY else f"{_NEVER:.12g}",
            },
        }
        for metric, wanted, kind in wanted_by
        if wanted
    ]
    if scaling.target_cpu_percent:
        cpu = {"value": str(max(1, round(scaling.target_cpu_percent))), "containerName": "triton"}
        triggers.append({"type": "cpu", "metricType": "Utilization", "metadata": cpu})
    return triggers


def _quantity(value: float) -> str:
    """A number as a quantity of Kubernetes, to the thousandth."""
    thousandths = max(1, round(value * 1000))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"
