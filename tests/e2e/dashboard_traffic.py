"""Everything that dashboards show, happening on a mesh: good and bad requests, releases, jobs, teams with limits."""

import json
import secrets
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil

from examples.rehearsal.models import NEW, OLD, Fault
from tests.e2e.driving import DIGITS, Rest, deploy, registration
from tests.e2e.rehearsing import Callers, install, minutes
from tests.support.mesh import Mesh
from tests.support.prometheus import Server
from tests.support.waiting import until

_STUB = "triton_python_backend_stub"
_SCRAPED_WITHIN_S = 5.0
WITHIN_S = 120.0
SAMPLE_ROWS = 1500
IDLE_S = 3
ZERO = {"enabled": True, "min_replicas": 0, "max_replicas": 1, "idle_timeout_s": IDLE_S}


def seen(prometheus: Server, expr: str) -> None:
    """Waits until Prometheus has seen that there is such a thing."""
    until(lambda: prometheus.asked("query", query=expr)["result"], within_s=WITHIN_S, what=f"Prometheus sees {expr}")


def teams(mesh: Mesh, operator: Rest) -> None:
    """A team that asks more than its limit allows, prices, and callers without a key."""
    prices = {"currency": "USD", "per_1000_requests": 0.02, "per_compute_hour": 0.1, "per_gpu_hour": 1.9}
    operator.ok("PUT", "/v1/prices", json=prices)
    name = f"limited-{secrets.token_hex(4)}"
    operator.ok("POST", "/v1/teams", json={"name": name, "rate_limit": {"requests_per_sec": 2, "burst": 3}})
    key = operator.ok("POST", f"/v1/teams/{name}/api-keys", json={"name": "asks", "role": "viewer"})["secret"]
    caller, nobody = Rest(mesh.gateway, key), Rest(mesh.gateway, "no key")
    body = {"instances": [mesh.samples[0]["instance"]]}

    def statuses() -> set[int]:
        path = "/v1/models/digits/predict"
        return {caller.call("POST", path, json=body).status_code for _ in range(10)}

    try:
        until(lambda: {200, 429} <= statuses(), within_s=WITHIN_S, what="some are answered, some refused")
        # Once its bucket has something in it again.
        until(
            lambda: caller.call("POST", "/v1/teams", json={"name": "mine"}).status_code == 403,
            within_s=WITHIN_S,
            every_s=0.6,
            what="a viewer makes no teams",
        )
        assert nobody.call("POST", "/v1/models/digits/predict", json=body).status_code == 401
    finally:
        caller.close()
        nobody.close()


def on_gpus(mesh: Mesh, file: Path) -> None:
    """Has the models that are loaded compute on a GPU that is played."""

    def stubs() -> list[int]:
        lines = [(one.pid, " ".join(one.info["cmdline"] or ())) for one in psutil.process_iter(["cmdline"])]
        return [pid for pid, line in lines if _STUB in line and f"{mesh.data_dir}/" in line]

    pids = until(stubs, what="the digits are loaded")
    file.write_text("".join(f"{pid}\n" for pid in pids))


def requests(mesh: Mesh, rest: Rest) -> None:
    """Good ones and bad ones, of models and of control-plane calls."""
    for sample in mesh.samples[:20]:
        rest.predict({"instances": [sample["instance"]]})
        rest.refused(400, "POST", "/v1/models/digits/predict", json={"instances": [{"X": [1]}]})
    for path in ("/v1/batch/jobs/none-of-ours", "/v1/models/none-of-ours"):
        rest.refused(404, "GET", path)


def sleeper(mesh: Mesh, rest: Rest, prometheus: Server) -> None:
    """A deterministic version that falls asleep, and is woken twice."""
    model = f"sleeper-{secrets.token_hex(4)}"
    rest.ok("POST", "/v1/models", json=registration(model, OLD))
    deploy(rest, model, OLD, "main", autoscaling=ZERO, serving={"deterministic": True})

    def asleep() -> bool:
        found = rest.ok("GET", f"/v1/models/{model}/deployments/main")["conditions"]
        return any(one["type"] == "Asleep" and one["status"] == "True" for one in found)

    rows = iter(mesh.samples)

    def woken(times: int) -> bool:
        until(asleep, within_s=WITHIN_S, what=f"{model} falls asleep")
        # The second time it comes out of the cache. One who asks before batchers have heard of the sleep wakes nobody.
        body = {"instances": [next(rows)["instance"]], "timeout_ms": 60_000}
        for _ in range(2):
            assert rest.call("POST", f"/v1/models/{model}/predict", json=body).status_code == 200
        counted = f'batcher_cold_start_seconds_count{{model="{model}"}} >= {times}'
        try:
            until(
                lambda: prometheus.asked("query", query=counted)["result"],
                within_s=_SCRAPED_WITHIN_S,
                what=f"Prometheus sees {counted}",
            )
        except AssertionError:
            return False
        return True

    # A rate is between two looks: each time is seen by itself.
    for times in (1, 2):
        until(lambda of=times: woken(of), within_s=WITHIN_S, what=f"{model} is woken")  # type: ignore[misc]


def releases(mesh: Mesh, rest: Rest, folder: Path, prometheus: Server) -> str:
    """A shadow that disagrees, a canary that is rolled back, an A/B test that is stopped; the model's name."""
    model = install(rest, folder)
    traffic = f"/v1/models/{model}/traffic"
    with Callers(mesh.gateway, model, key=mesh.key, callers=2) as callers:
        callers.fault, callers.share = Fault.WRONG, 0.3
        rest.ok("PATCH", traffic, json={"shadows": [{"version": NEW, "percent": 100}]})
        seen(prometheus, f'model_shadow_copies_total{{model="{model}",result="disagreed"}} > 5')
        rest.ok("PATCH", traffic, json={"clear": ["shadows"]})
        callers.fault = Fault.NONE
        rest.ok(
            "PATCH",
            f"/v1/models/{model}/deployments/new/traffic",
            json={
                "traffic_split": {OLD: 50, NEW: 50},
                "canary_config": {
                    "enabled": True,
                    "stages": [
                        {"percent": 50, "duration_minutes": minutes(600)},
                        {"percent": 100, "duration_minutes": 0},
                    ],
                    "success_criteria": {"error_rate_max": 0.02, "requests_min": 50},
                },
                "reason": "a rehearsal",
            },
        )
        seen(prometheus, f'router_rollout_verdicts{{model="{model}"}}')
        seen(prometheus, f'router_traffic_percent{{model="{model}",version="{NEW}",role="share"}} == 50')
        callers.fault = Fault.ERROR
        seen(prometheus, 'router_rollouts_ended_total{kind="canary",status="rolled_back"} > 0')
        callers.fault = Fault.NONE
        path = f"/v1/models/{model}/ab-tests"
        rest.ok("POST", path, json={"name": "tried", "versions": {OLD: 50, NEW: 50}, "duration_days": 1})
        seen(prometheus, 'router_rollouts{kind="ab_test",status="running"} == 1')
        rest.ok("POST", f"{path}/tried:stop", json={"reason": "seen enough"})
        seen(prometheus, 'router_rollouts_ended_total{kind="ab_test",status="stopped"} > 0')
        drift(rest, model, folder)
    return model


def drift(rest: Rest, model: str, folder: Path) -> None:
    """A report of how the old version's traffic compares with what it was trained on: it drifts."""
    draw = Random(7)
    sample = folder / "trained.jsonl"
    rows = ({"value": draw.uniform(0.0, 0.2), "fault": 0} for _ in range(SAMPLE_ROWS))
    sample.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = f"/v1/models/{model}/versions/{OLD}"
    made: dict[str, Any] = rest.ok("POST", f"{path}/baselines", json={"sample_uri": sample.as_uri()})
    until(
        lambda: rest.ok("GET", f"/v1/models/{model}/baselines/{made['baseline_id']}")["status"] == "active",
        within_s=WITHIN_S,
        what="the baseline is read",
    )

    def reported() -> bool:
        answer: httpx.Response = rest.call("POST", f"{path}/drift-reports", json={})
        assert answer.status_code in (200, 412), answer.text
        return answer.status_code == 200

    until(reported, within_s=WITHIN_S, every_s=1.0, what="there are enough predictions for a report")


def jobs(rest: Rest, folder: Path, prometheus: Server) -> None:
    """Jobs that end, and one that is cancelled."""
    holdout = (DIGITS / "holdout.jsonl").as_uri()
    body = {"model_name": "digits", "input_uri": holdout, "input": {"key_column": "id"}, "batch_size": 16}

    def completed(output: str) -> None:
        made = rest.ok("POST", "/v1/batch/predict", json={**body, "output_uri": (folder / output).as_uri()})
        path = f"/v1/batch/jobs/{made['job_id']}"
        until(lambda: rest.ok("GET", path)["status"] == "completed", within_s=WITHIN_S, what="the job is done")

    completed("first.jsonl")
    seen(prometheus, 'batch_rows_total{outcome="predicted"} > 0')
    # What it does is growth, whenever Prometheus looked first.
    completed("second.jsonl")
    other = rest.ok("POST", "/v1/batch/predict", json={**body, "output_uri": (folder / "other.jsonl").as_uri()})
    rest.call("POST", f"/v1/batch/jobs/{other['job_id']}:cancel", json={})
