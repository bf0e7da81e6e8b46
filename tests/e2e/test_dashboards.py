"""Grafana's dashboards over a running mesh: no panel is empty, and marks in graphs lead to traces.

A Prometheus of Debian's looks at the mesh with deploy/prometheus/prometheus.yaml and the chart's rules while all that
the panels are about happens. Then every query of every panel is asked as Grafana asks it.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from infermesh.prediction.v1 import prediction_service_pb2, prediction_service_pb2_grpc

from services.supervisor.settings import ROOT
from tests.e2e import dashboard_traffic
from tests.e2e.driving import MODEL, TIMEOUT_S, Rest, bearer
from tests.support.mesh import Mesh, start_mesh, stop_mesh
from tests.support.otlp import SpanReceiver, receiving_spans
from tests.support.played_gpus import nvml_double
from tests.support.prometheus import Server, config_for, program, running
from tests.support.waiting import until

DASHBOARDS = sorted((ROOT / "deploy" / "helm" / "infermesh" / "dashboards").glob("*.json"))
SEEN_WITHIN_S = 120.0
PIDS = "gpu-pids"
"""Who computes on the GPUs that are played."""
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Watched:
    """A mesh, what watches it, and since when."""

    mesh: Mesh
    rest: Rest
    prometheus: Server
    spans: SpanReceiver
    began_s: float


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A mesh of its own: with traces, a log and samples of all requests, a limiter as several gateways have, and GPUs
    that a library plays where there are none."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    gpus = {} if which("nvidia-smi") else {"INFERMESH_MONITOR_NVML_LIBRARY": nvml_double(folder, pids=folder / PIDS)}
    with receiving_spans() as spans:
        mesh = start_mesh(
            folder / "data",
            settings={
                "INFERMESH_LIMITER": "on",
                "INFERMESH_OTLP_ENDPOINT": spans.address,
                "INFERMESH_TRITON_OTLP_URL": spans.url,
                "INFERMESH_MONITOR_LOG_SAMPLE_RATE": "1",
                "INFERMESH_MONITOR_DRIFT_ROWS_PER_S": "1000",
                "INFERMESH_MONITOR_SAMPLE_DIR": str(folder),
                **{name: str(value) for name, value in gpus.items()},
            },
        )
        rest = Rest(mesh.gateway, mesh.key)
        try:
            with running(config_for(mesh, folder), "exemplar-storage") as prometheus:
                yield Watched(mesh, rest, prometheus, spans, time.time())  # noqa: TID251 - Prometheus goes by it
        finally:
            rest.close()
            stop_mesh(mesh)


@pytest.fixture(scope="module")
def happened(watched: Watched) -> None:
    """All that panels are about."""
    folder = watched.mesh.data_dir.parent
    until(
        lambda: all(state == "up" for state in watched.prometheus.up().values()),
        within_s=SEEN_WITHIN_S,
        what="Prometheus reads every part of the mesh",
    )
    dashboard_traffic.on_gpus(watched.mesh, folder / PIDS)
    dashboard_traffic.requests(watched.mesh, watched.rest)
    dashboard_traffic.teams(watched.mesh, watched.rest)
    dashboard_traffic.jobs(watched.rest, folder, watched.prometheus)
    dashboard_traffic.releases(watched.mesh, watched.rest, folder, watched.prometheus)
    dashboard_traffic.sleeper(watched.mesh, watched.rest, watched.prometheus)


def filled(expr: str) -> str:
    """A query as Grafana sends it, everything chosen, over the time that the test took."""
    for variable, value in (
        ("$__rate_interval", "5m"),
        ("$__range", "15m"),
        *((f"${name}", ".*") for name in ("namespace", "model", "version", "team")),
    ):
        expr = expr.replace(variable, value)
    assert "$" not in expr, f"a variable is left in {expr}"
    return expr


def queries(dashboard: Any) -> Mapping[str, str]:
    """Every query of a dashboard, by its panel and letter."""
    return {
        f"{panel['title']} ({target['refId']})": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }


@pytest.mark.usefixtures("happened")
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_panel_is_empty(watched: Watched, path: Path) -> None:
    asked = {name: filled(expr) for name, expr in queries(json.loads(path.read_text())).items()}
    assert len(asked) > 10
    empty = dict(asked)

    def all_shown() -> bool:
        now_s = time.time()  # noqa: TID251 - Prometheus goes by it
        for name, expr in list(empty.items()):
            if watched.prometheus.values(expr, start_s=watched.began_s, end_s=now_s):
                del empty[name]
        assert not empty, json.dumps(empty, indent=1)
        return True

    until(all_shown, within_s=SEEN_WITHIN_S, every_s=2.0, what=f"every query of {path.name} shows something")


@pytest.mark.usefixtures("happened")
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_variables_have_values_to_choose_from(watched: Watched, path: Path) -> None:
    for variable in json.loads(path.read_text())["templating"]["list"]:
        # A machine without a cluster has no namespaces: the variable stays at all of them.
        if variable["type"] != "query" or variable["name"] == "namespace":
            continue
        assert variable["query"].startswith("label_values(")
        selector, _, label = variable["query"].removeprefix("label_values(").rpartition(", ")
        found = watched.prometheus.asked(f"label/{label.removesuffix(')')}/values", **{"match[]": filled(selector)})
        assert [value for value in found if value], variable["name"]


def test_envoys_figures_are_told_to_an_operator_alone(watched: Watched) -> None:
    """As a Prometheus in a cluster asks: through the gateway, with a key, for some of them."""
    asked = (ROOT / "deploy" / "helm" / "infermesh" / "envoy-figures.txt").read_text().strip()
    answer = watched.rest.call("GET", "/metrics", params={"filter": asked})
    assert answer.status_code == 200
    assert "envoy_http_downstream_rq_xx{" in answer.text
    assert 'envoy_http_conn_manager_prefix="gateway"' in answer.text
    assert "_rds_" not in answer.text


def test_the_limiter_is_asked_about_every_kind_of_call(watched: Watched) -> None:
    """Also about what the gateway answers inside, and what the transcoder has yet to find a service for."""
    name = f"counted-{secrets.token_hex(4)}"
    limit = {"requests_per_sec": 1000, "burst": 1000}
    watched.rest.ok("POST", "/v1/teams", json={"name": name, "rate_limit": limit})
    key = watched.rest.ok("POST", f"/v1/teams/{name}/api-keys", json={"name": "asks", "role": "viewer"})["secret"]
    caller, sample = Rest(watched.mesh.gateway, key), watched.mesh.samples[0]
    figures = f"http://127.0.0.1:{watched.mesh.port('limiter_metrics')}/metrics"

    def counted() -> float:
        text = httpx.get(figures, timeout=TIMEOUT_S, trust_env=False).text
        return sum(float(one) for one in re.findall(r"(?m)^limiter_calls_total\{.*\} (.*)$", text))

    def is_counted() -> bool:
        before = counted()
        caller.ok("GET", "/v1/models")
        return counted() > before

    with closing(caller), grpc.insecure_channel(watched.mesh.gateway) as channel:
        until(is_counted, within_s=SEEN_WITHIN_S, what="the limiter knows of the team")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        instances = {"instances": [sample["instance"]]}
        body = httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(instances).encode())
        asked = prediction_service_pb2.PredictJsonRequest(model_name=MODEL, body=body)
        before = counted()
        caller.predict(instances)
        assert counted() == before + 1
        stub.PredictJson(asked, metadata=tuple(bearer(key).items()), timeout=TIMEOUT_S)
        assert counted() == before + 2
        caller.ok("GET", f"/v1/models/{MODEL}")
        assert counted() == before + 3


def exemplars_of(prometheus: Server, query: str, *, since_s: float) -> Mapping[str, float]:
    """The values of exemplars by trace id."""
    now_s = time.time()  # noqa: TID251 - Prometheus goes by it
    found = prometheus.asked("query_exemplars", query=query, start=since_s, end=now_s)
    return {one["labels"]["trace_id"]: float(one["value"]) for series in found for one in series["exemplars"]}


def test_a_slow_bucket_leads_to_its_trace_and_to_the_log(watched: Watched) -> None:
    """W3C context from the client through Envoy and the batcher to spans, exemplars and the log's entry."""
    trace_id, parent_id, unsampled = secrets.token_hex(16), secrets.token_hex(8), secrets.token_hex(16)
    request_id = secrets.token_hex(8)
    body = {"instances": [watched.mesh.samples[0]["instance"]]}
    for trace, flag, name in ((unsampled, "00", f"{request_id}-not"), (trace_id, "01", request_id)):
        headers = {"traceparent": f"00-{trace}-{parent_id}-{flag}", "x-request-id": name}
        watched.rest.predict(body, headers=headers)
    until(
        lambda: trace_id in exemplars_of(watched.prometheus, "model_latency_ms_bucket", since_s=watched.began_s),
        within_s=SEEN_WITHIN_S,
        what="the exemplar is stored",
    )
    found = exemplars_of(watched.prometheus, "model_latency_ms_bucket", since_s=watched.began_s)
    assert found[trace_id] > 0
    assert unsampled not in found
    [span] = until(lambda: watched.spans.of(trace_id), within_s=SEEN_WITHIN_S, what="the span is exported")
    assert (span.name, span.parent_id) == ("predict", parent_id)
    assert not watched.spans.of(unsampled)
    # A batch has a trace of its own, which Triton goes on with.
    [(batch, batch_span)] = span.links
    inside = until(
        lambda: [one for one in watched.spans.of(batch) if one.name != "batch"],
        within_s=SEEN_WITHIN_S,
        what="Triton's spans of the batch are exported",
    )
    assert batch_span in {one.parent_id for one in inside}

    def logged(name: str) -> dict[str, Any]:
        params = {"request_id": name}
        found = watched.rest.ok("GET", "/v1/models/digits/inference-logs", params=params)["inference_logs"]
        return dict(found[0]["metadata"]) if found else {}

    entry = until(lambda: logged(request_id), within_s=SEEN_WITHIN_S, what="the request is in the log")
    assert entry["trace_id"] == trace_id
    entry = until(lambda: logged(f"{request_id}-not"), within_s=SEEN_WITHIN_S, what="the other is in the log")
    assert "trace_id" not in entry
