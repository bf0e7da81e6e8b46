"""What the mesh says about predictions: the metrics API, and Prometheus metrics with the names operators rely on."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.driving import MODEL, NEW, TIMEOUT_S, Rest, deploy, registration
from tests.support.mesh import Mesh
from tests.support.waiting import until

SEEN_WITHIN_S = 60.0


@pytest.fixture
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


def counted(rest: Rest, *, model: str = MODEL, version: str = "") -> dict[str, Any]:
    found = rest.ok("GET", f"/v1/models/{model}/metrics", params={"version": version} if version else {})
    return dict(found["metrics"])


def test_metrics_have_exactly_the_documented_shape(mesh: Mesh, rest: Rest) -> None:
    rest.predict({"instances": [mesh.samples[0]["instance"]]})
    until(lambda: counted(rest)["request_count"] > 0, within_s=SEEN_WITHIN_S, what="the monitor counts a prediction")
    answer = rest.ok("GET", f"/v1/models/{MODEL}/metrics")
    assert set(answer) == {"model_name", "version", "metrics", "resource_usage"}
    assert set(answer["metrics"]) == {
        "request_count",
        "error_count",
        "error_rate",
        "latency",
        "throughput_per_sec",
        "prediction_distribution",
        "confidence_distribution",
    }
    assert set(answer["metrics"]["latency"]) == {"p50", "p95", "p99", "avg"}
    # Of GPUs only where there are some: a machine without has no idle ones.
    assert set(answer["resource_usage"]) >= {"cpu_percent", "memory_percent"}
    assert set(answer["resource_usage"]) <= {"cpu_percent", "memory_percent", "gpu_utilization", "gpu_memory_percent"}
    assert all(isinstance(answer["metrics"][name], int | float) for name in ("request_count", "error_rate"))


def test_every_prediction_is_counted_once_under_its_version(mesh: Mesh, rest: Rest) -> None:
    # A model of its own: of others, predictions that were answered before may still be on their way to the monitor.
    model = f"counted-{secrets.token_hex(4)}"
    rest.ok("POST", "/v1/models", json=registration(model, NEW))
    deploy(rest, model, NEW, "only")
    for _ in range(12):
        rest.predict({"version": NEW, "instances": [mesh.samples[0]["instance"]]}, model=model)
    rest.refused(400, "POST", f"/v1/models/{model}/predict", json={"version": NEW, "instances": [{"X": [1]}]})
    after = until(
        lambda: (now := counted(rest, model=model, version=NEW))["request_count"] >= 13 and now,
        within_s=SEEN_WITHIN_S,
        what="13 requests are counted",
    )
    assert isinstance(after, dict)
    assert (after["request_count"], after["error_count"]) == (13, 1)
    assert 0 < after["latency"]["p50"] <= after["latency"]["p95"] <= after["latency"]["p99"]
    assert sum(after["prediction_distribution"].values()) == pytest.approx(1.0, abs=1e-6)
    assert set(after["prediction_distribution"]) <= {str(digit) for digit in range(10)}
    assert sum(after["confidence_distribution"].values()) == pytest.approx(1.0, abs=1e-6)


def test_a_window_that_cannot_be_is_refused(rest: Rest) -> None:
    window = {"start_time": "2026-02-02T00:00:00Z", "end_time": "2026-02-01T00:00:00Z"}
    error = rest.refused(400, "GET", f"/v1/models/{MODEL}/metrics", params=window)
    assert "time" in json.dumps(error)


def exposed(address: str) -> dict[str, list[Any]]:
    """Sample name to samples, of one /metrics page; parsing it proves that it is well-formed."""
    page = httpx.get(f"http://{address}/metrics", timeout=TIMEOUT_S, trust_env=False)
    assert page.status_code == 200, f"{address}: {page.status_code}"
    families: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            families.setdefault(sample.name, []).append(sample)
    return families


def listening(mesh: Mesh, purpose: str) -> str:
    return f"127.0.0.1:{mesh.port(purpose)}"


def test_the_batcher_exposes_the_names_of_the_contract(mesh: Mesh, rest: Rest) -> None:
    request_id = secrets.token_hex(8)
    rest.predict({"instances": [mesh.samples[0]["instance"]]}, headers={"x-request-id": request_id})
    rest.call("POST", f"/v1/models/{MODEL}/predict", json={"instances": [{"X": [1]}]})
    address = listening(mesh, "batcher")

    def complete() -> dict[str, list[Any]]:
        found = exposed(address)
        wanted = {
            "model_requests_total": {"model", "version", "status"},
            "model_latency_ms_bucket": {"model", "version"},
            "model_errors_total": {"model", "version", "error_type"},
            "model_batch_size_bucket": {"model", "version"},
            "model_queue_depth": {"model"},
            "model_predictions_by_class_total": {"model", "version", "class"},
            "model_active_requests": set(),
        }
        for name, labels in wanted.items():
            samples = (
                found.get(name) or found.get(name.removesuffix("_total")) or found.get(name.removesuffix("_bucket"))
            )
            assert samples, f"{name} is not exposed; there are {sorted(found)}"
            assert labels <= set(samples[0].labels), (name, samples[0].labels)
        return found

    until(complete, within_s=SEEN_WITHIN_S, what="the batcher exposes every documented name")


@pytest.mark.parametrize("part", ["registry", "router", "deployer", "batch", "monitor"])
def test_every_service_exposes_metrics(mesh: Mesh, part: str) -> None:
    assert exposed(listening(mesh, f"{part}_metrics"))


def test_the_mesh_as_a_whole_exposes_every_name_of_the_contract(mesh: Mesh, rest: Rest) -> None:
    rest.predict({"instances": [mesh.samples[0]["instance"]]})
    names = (
        "model_throughput_per_sec",
        "model_cpu_usage",
        "model_memory_usage_bytes",
        "model_gpu_utilization",
        "model_latency_p95_ms",
    )

    def missing() -> set[str]:
        text = ""
        for part in ("batcher", "monitor_metrics", "deployer_metrics", "router_metrics"):
            page = httpx.get(f"http://{listening(mesh, part)}/metrics", timeout=TIMEOUT_S, trust_env=False)
            text += page.text
        return {name for name in names if f"# TYPE {name}" not in text}

    def none_missing() -> bool:
        assert missing() == set()
        return True

    until(none_missing, within_s=SEEN_WITHIN_S, what="every documented name is exposed somewhere")
