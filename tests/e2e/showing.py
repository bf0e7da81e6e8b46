"""A model with a bit of everything that the console shows."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.common.clock import SystemClock
from services.supervisor.settings import ROOT
from tests.e2e.driving import NEW, OLD, Rest, deploy, holdout, registration
from tests.support.waiting import until

ASKED = 60
WITHIN_S = 180.0
"""The longest that one step may take; a busy machine needs half a minute for `ASKED` requests alone."""
_DRIFT_ROWS = 1350
"""More than the 1,000 below which nothing is compared; the held-out rows three times."""
_ROWS_AT_ONCE = 45


@dataclass(frozen=True)
class Shown:
    """What was made, by name."""

    model: str
    job: str
    report: str
    request: str
    """One that was logged with its output, and of which an outcome was reported."""
    rule: str
    channel: str
    schedule: str


def furnish(rest: Rest, samples: Path, files: Path) -> Shown:
    """Two versions, a test that ended, a canary that was rolled back and one that goes on, a job, a schedule, drift,
    copies, a log, outcomes, a rule and its channel. `samples`: where the monitor reads baselines from; `files`: what
    jobs write is put there."""
    name = f"shown-{secrets.token_hex(3)}"
    path = f"/v1/models/{name}"
    for version in (OLD, NEW):
        parent = {"lineage": {"parent_version": OLD}} if version == NEW else {}
        rest.ok("POST", "/v1/models", json={**registration(name, version), **parent})
        deploy(rest, name, version, f"at-{version.replace('.', '-')}")
    policy = {"sample_rate": 1, "log_output": True, "log_input_hash": True}
    rest.ok("PATCH", f"{path}/logging-policy", json=policy)
    baseline(rest, path, samples / f"{name}.jsonl")
    rule, channel = watched(rest, name)
    rest.ok("PATCH", f"{path}/traffic", json={"traffic_split": {OLD: 70, NEW: 30}, "reason": "a first look"})
    tested(rest, name)
    rest.ok(
        "PATCH", f"{path}/traffic", json={"traffic_split": {OLD: 100}, "shadows": [{"version": NEW, "percent": 100}]}
    )
    report = drifted(rest, name)
    until(
        lambda: rest.ok("GET", f"{path}/shadow-reports")["shadow_reports"],
        within_s=WITHIN_S,
        what="copies are compared",
    )
    rest.ok("PATCH", f"{path}/traffic", json={"clear": ["shadows"]})
    request = answered(rest, name)
    # One that cannot pass, so that an alert fires, and one that goes on.
    canary(rest, path, {"latency_p95_max_ms": 0.001, "requests_min": 20})
    until(
        lambda: ask(rest, name) and rest.ok("GET", f"{path}/canary")["status"] == "rolled_back",
        within_s=WITHIN_S,
        every_s=1.0,
        what="the first canary is rolled back",
    )
    canary(rest, path, {"error_rate_max": 0.01, "latency_p95_ratio_max": 2.0, "requests_min": 20})
    ask(rest, name)
    return Shown(
        model=name,
        job=submit(rest, name, files / "predictions.csv"),
        report=report,
        request=request,
        rule=rule,
        channel=channel,
        schedule=scheduled(rest, name, files),
    )


def ask(rest: Rest, model: str) -> bool:
    """Some requests, one after the other, of different users."""
    for place, row in enumerate(holdout(ASKED)):
        rest.predict({"instances": [{"X": row["X"]}]}, model=model, headers={"x-user-id": str(place)})
    return True


def canary(rest: Rest, path: str, criteria: dict[str, float]) -> None:
    """Begins one of the new version."""
    stages = [{"percent": 50, "duration_minutes": 30}, {"percent": 100, "duration_minutes": 0}]
    config = {"enabled": True, "stages": stages, "success_criteria": criteria}
    rest.ok("PATCH", f"{path}/deployments/at-{NEW.replace('.', '-')}/traffic", json={"canary_config": config})


def tested(rest: Rest, model: str) -> None:
    """An A/B test that was stopped once it had seen something."""
    path = f"/v1/models/{model}/ab-tests"
    test = {"name": "forest", "versions": {OLD: 50, NEW: 50}, "duration_days": 7, "metrics": ["latency", "error_rate"]}
    rest.ok("POST", path, json=test)

    def seen() -> float:
        arms = rest.ok("GET", f"{path}/forest")["results"]["arms"]
        return float(sum(arm["request_count"] for arm in arms))

    # What comes in the second in which it begins may not count yet.
    until(
        lambda: ask(rest, model) and seen() >= ASKED,
        within_s=WITHIN_S,
        every_s=1.0,
        what="the test has seen its requests",
    )
    rest.ok("POST", f"{path}/forest:stop", json={"reason": "seen enough"})


def baseline(rest: Rest, path: str, sample: Path) -> None:
    """The held-out rows as the sample that the old version is compared with."""
    lines = [json.dumps({"X": row["X"], "label": row["digit"]}) for row in _rows()]
    sample.parent.mkdir(exist_ok=True)
    sample.write_text("\n".join(lines) + "\n")
    made = rest.ok("POST", f"{path}/versions/{OLD}/baselines", json={"sample_uri": sample.as_uri()})
    at = f"{path}/baselines/{made['baseline_id']}"
    until(lambda: rest.ok("GET", at)["status"] == "active", within_s=WITHIN_S, what="the baseline is read")


def drifted(rest: Rest, model: str) -> str:
    """Two reports of rows of which the right half is dimmed; the second one's id."""
    path = f"/v1/models/{model}"
    rows = [{"X": [x if at % 8 < 4 else x // 2 for at, x in enumerate(row["X"])]} for row in _rows()]

    def asked() -> None:
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            rest.predict({"instances": rows[begin : begin + _ROWS_AT_ONCE]}, model=model)

    asked()
    made: list[str] = []

    def compared(minutes: int) -> bool:
        now = SystemClock().now()
        window = {"start_time": _said(now - timedelta(hours=1)), "end_time": _said(now + timedelta(minutes=minutes))}
        answer = rest.call("POST", f"{path}/versions/{OLD}/drift-reports", json={"window": window})
        if answer.status_code == 200:
            made.append(str(answer.json()["report_id"]))
            return True
        # Of so many rows a second some alone are sampled, so a quick machine needs them again.
        asked()
        return False

    # Rows come with the log, some seconds later. The second window is longer, so the two are told apart by their ends.
    for minutes in (0, 15):
        until(lambda of=minutes: compared(of), within_s=WITHIN_S, every_s=2.0, what="drift is compared")  # type: ignore[misc]
    return made[-1]


def answered(rest: Rest, model: str) -> str:
    """A request of which an outcome is reported, and one that failed; the first one's id."""
    row = holdout(1)[0]
    request = str(rest.predict({"instances": [{"X": row["X"]}]}, model=model)["request_id"])
    outcome = {"request_id": request, "ground_truth": str(row["digit"]), "metrics": {"clicks": 2}}
    rest.ok("POST", "/v1/outcomes", json=outcome)
    rest.refused(400, "POST", f"/v1/models/{model}/predict", json={"instances": [{"X": [1.0]}]})
    return request


def watched(rest: Rest, model: str) -> tuple[str, str]:
    """A rule and its channel, behind which nobody listens."""
    channel, rule = f"{model}-hook", f"{model}-errors"
    rest.ok("POST", "/v1/notification-channels", json={"name": channel, "webhook": {"url": "http://127.0.0.1:9/hook"}})
    threshold = {"metric": "error_rate", "comparison": ">", "threshold": 0.9, "window_s": 300}
    made = {"name": rule, "description": "Nearly all fails.", "model_name": model, "threshold": threshold}
    told = {"severity": "critical", "notification_channels": [channel], "enabled": True}
    rest.ok("POST", "/v1/alert-rules", json={**made, **told})
    return rule, channel


def submit(rest: Rest, model: str, output: Path) -> str:
    """A job over the held-out rows; its id."""
    return str(rest.ok("POST", "/v1/batch/predict", json={**_job(model, output), "job_name": "the holdout"})["job_id"])


def scheduled(rest: Rest, model: str, files: Path) -> str:
    """A schedule of such jobs; its name."""
    schedule: dict[str, Any] = {
        "schedule_name": f"{model}-nightly",
        "cron": "0 3 * * *",
        "time_zone": "Europe/Berlin",
        "job": _job(model, files / "nightly-{date}.csv"),
    }
    return str(rest.ok("POST", "/v1/batch/schedules", json={"schedule": schedule})["schedule_name"])


def _job(model: str, output: Path) -> dict[str, Any]:
    source = ROOT / ".build" / "digits" / "holdout.jsonl"
    # A place in braces is not to be written as a URL does.
    target = f"file://{output}"
    return {"model_name": model, "input_uri": source.as_uri(), "output_uri": target, "input": {"key_column": "id"}}


def _rows() -> Sequence[dict[str, Any]]:
    rows = holdout()
    return (rows * (1 + _DRIFT_ROWS // len(rows)))[:_DRIFT_ROWS]


def _said(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
