"""The rules are those that their tool makes, Prometheus takes them, and each fires when it should and only then."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import typer
import yaml
from infermesh.client.cli.app import build_app

from services.supervisor.settings import ROOT
from tests.support.helm import of_kind, rendered
from tests.support.prometheus import RULES, program
from tools.prometheus_rules import FILES, recordings, text_of

FILES_OF_RULES = sorted(RULES.glob("*.yaml"))
_TIMEOUT_S = 60
_RECORDING = {str(group["name"]) for group in recordings()}
_METRIC = re.compile(r"\b(?:model|batcher|batch|router|deployer)_[a-z0-9_]+\b(?=\s*[{\[])")
_SUFFIX = re.compile(r"_(?:total|bucket|sum|count)$")


def rules() -> Iterator[dict[str, Any]]:
    for path in FILES_OF_RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def alerts() -> Mapping[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def test_the_files_are_what_the_tool_makes() -> None:
    assert {path.name: path.read_text() for path in FILES_OF_RULES} == {
        name: text_of(groups()) for name, groups in FILES.items()
    }


def test_prometheus_takes_them() -> None:
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *FILES_OF_RULES],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_ask_for_metrics_that_services_have_or_that_are_recorded() -> None:
    texts = [path.read_text() for path in (ROOT / "services").rglob("*.py")]
    known = {_SUFFIX.sub("", name) for text in texts for name in re.findall(r'"([a-z]+(?:_[a-z0-9]+)+)"', text)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        promql_parser.parse(rule["expr"])
        asked = {_SUFFIX.sub("", name) for name in _METRIC.findall(rule["expr"])}
        assert asked <= known, rule
        assert set(re.findall(r"\b(?:namespace|model):[a-z0-9_:]+", rule["expr"])) <= recorded, rule


def test_every_command_that_an_alert_names_is_one() -> None:
    named = {
        command
        for alert in alerts().values()
        for command in re.findall(r"`infermesh ([a-z -]+)", alert["annotations"]["description"])
    }
    assert len(named) > 5
    for command in named:
        words = command.split(" --")[0].split()
        found: Any = typer.main.get_command(build_app())
        for word in words:
            assert word in getattr(found, "commands", ()), command
            found = found.commands[word]


def test_the_chart_brings_them_to_the_prometheus_operator() -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in of_kind(rendered("full"), "PrometheusRule")}
    assert found == {f"infermesh-{path.stem}": yaml.safe_load(path.read_text()) for path in FILES_OF_RULES}
    assert not of_kind(rendered("minimal"), "PrometheusRule")


@dataclass(frozen=True)
class Case:
    """Series as promtool writes them, each value a step after the one before, and whether the alert fires at last."""

    alert: str
    series: Mapping[str, str]
    minutes: int
    fires: bool
    step: int = 1
    """In minutes."""
    labels: str = ""
    """Of the alerts that are meant."""


def _requests(rate: int, faults: int, *, reason: str = "MODEL_FAILED", minutes: int = 200) -> Mapping[str, str]:
    labels = 'namespace="mesh",model="m",version="v1.0.0"'
    return {
        f'model_requests_total{{{labels},status="OK"}}': f"0+{rate - faults}x{minutes}",
        f'model_requests_total{{{labels},status="INTERNAL"}}': f"0+{faults}x{minutes}",
        f'model_errors_total{{{labels},error_type="{reason}"}}': f"0+{faults}x{minutes}",
    }


def _histogram(name: str, bounds: Mapping[str, int], labels: str = "", *, minutes: int = 200) -> Mapping[str, str]:
    """A histogram that grows by so many within each bound a minute."""
    own = f'namespace="mesh"{labels}'
    buckets = {f'{name}_bucket{{{own},le="{bound}"}}': f"0+{count}x{minutes}" for bound, count in bounds.items()}
    return buckets | {f"{name}_count{{{own}}}": f"0+{bounds['+Inf']}x{minutes}"}


def _latency(within: Mapping[str, int]) -> Mapping[str, str]:
    histogram = _histogram("model_latency_ms", within, ',model="m",version="v1.0.0"')
    return {**histogram, **_requests(within["+Inf"], 0)}


_BATCHER_LOG = 'batcher_prediction_log_dropped_total{namespace="mesh"}'
_RUNNING, _ROWS = 'batch_jobs_running{namespace="mesh"}', 'batch_rows_total{namespace="mesh",model="m"}'
_GIVEN_UP = 'batch_notifications_total{namespace="mesh",means="webhook",outcome="%s"}'
_OF_M = 'namespace="mesh",model="m",version="v1.0.0"'

CASES = [
    # A budget of 0.05 %: 14.4 times as fast is 0.72 % of requests.
    Case("InfermeshAvailabilityBudget", _requests(1000, 8), 70, True),
    Case("InfermeshAvailabilityBudget", _requests(100_000, 40), 4380, False, step=30),
    Case("InfermeshAvailabilityBudget", _requests(100_000, 60), 4380, True, step=30),
    # What callers bring upon themselves costs nothing.
    Case("InfermeshAvailabilityBudget", _requests(1000, 500, reason="CALLER_CANCELLED"), 70, False),
    Case("InfermeshAvailabilityBudget", _requests(1000, 8, reason="SOMETHING_NEW"), 70, True),
    # Over in the short window, it is over.
    Case(
        "InfermeshAvailabilityBudget",
        {
            f'model_requests_total{{{_OF_M},status="OK"}}': "0+1000x80",
            f'model_errors_total{{{_OF_M},error_type="MODEL_FAILED"}}': "0+20x50 1000x30",
        },
        61,
        False,
        labels=',window="1h"',
    ),
    Case("InfermeshLatencyBudget", _latency({"50": 100, "100": 200, "+Inf": 1000}), 70, True),
    Case("InfermeshLatencyBudget", _latency({"50": 900, "100": 960, "+Inf": 1000}), 4380, False, step=30),
    Case("InfermeshErrorRate", _requests(10_000, 12), 80, True),
    Case("InfermeshErrorRate", _requests(10_000, 9), 80, False),
    Case("InfermeshErrorRate", _requests(10, 1), 80, False),
    Case("InfermeshMedianLatency", _latency({"50": 400, "75": 900, "+Inf": 1000}), 80, True),
    Case("InfermeshMedianLatency", _latency({"50": 600, "75": 900, "+Inf": 1000}), 80, False),
    Case("InfermeshModelErrors", _requests(1000, 11), 20, True),
    Case("InfermeshModelErrors", _requests(1000, 9), 20, False),
    Case("InfermeshModelErrors", _requests(10, 5), 20, False),
    Case("InfermeshModelSlow", _latency({"200": 900, "300": 1000, "+Inf": 1000}), 30, True),
    Case("InfermeshModelSlow", _latency({"200": 960, "300": 1000, "+Inf": 1000}), 30, False),
    Case("InfermeshLoadSlow", _histogram("deployer_bring_up_seconds", {"30.0": 1, "+Inf": 2}), 70, True),
    Case("InfermeshLoadSlow", _histogram("deployer_bring_up_seconds", {"30.0": 2, "+Inf": 2}), 70, False),
    Case("InfermeshColdStartSlow", _histogram("batcher_cold_start_seconds", {"10": 1, "+Inf": 2}), 70, True),
    Case("InfermeshColdStartSlow", _histogram("batcher_cold_start_seconds", {"10": 2, "+Inf": 2}), 70, False),
    Case("InfermeshFeaturesSlow", _histogram("model_feature_retrieval_ms", {"10": 970, "+Inf": 1000}), 30, True),
    Case("InfermeshFeaturesSlow", _histogram("model_feature_retrieval_ms", {"10": 995, "+Inf": 1000}), 30, False),
    Case("InfermeshBatchStalled", {_RUNNING: "1x60", _ROWS: "5x60"}, 50, True),
    Case("InfermeshBatchStalled", {_RUNNING: "1x60", _ROWS: "0+5x60"}, 50, False),
    Case("InfermeshBatchStalled", {_RUNNING: "0x60", _ROWS: "5x60"}, 50, False),
    Case(
        "InfermeshGpuIdle",
        {'model_gpu_utilization{namespace="mesh",deployment="d"}': "40x40", f"model_queue_depth{{{_OF_M}}}": "3x40"},
        30,
        True,
    ),
    Case(
        "InfermeshGpuIdle",
        {'model_gpu_utilization{namespace="mesh",deployment="d"}': "40x40", f"model_queue_depth{{{_OF_M}}}": "0x40"},
        30,
        False,
    ),
    Case("InfermeshPartDown", {'up{job="registry",instance="a:1"}': "1x5 0x10"}, 10, True),
    Case("InfermeshPartDown", {'up{job="mesh/router",instance="a:1"}': "0x10"}, 5, True),
    Case("InfermeshPartDown", {'up{job="registry",instance="a:1"}': "1x5 0x1 1x9"}, 10, False),
    Case("InfermeshPartDown", {'up{job="somebody-elses",instance="a:1"}': "0x10"}, 5, False),
    Case(
        "InfermeshNoBackend",
        {
            f'model_backends{{{_OF_M},state="up"}}': "0x10",
            f'model_backends{{{_OF_M},state="down"}}': "2x10",
            f"model_requests_waiting{{{_OF_M}}}": "7x10",
        },
        5,
        True,
    ),
    Case(
        "InfermeshNoBackend",
        {
            f'model_backends{{{_OF_M},state="slow_start"}}': "1x10",
            f'model_backends{{{_OF_M},state="up"}}': "0x10",
            f"model_requests_waiting{{{_OF_M}}}": "7x10",
        },
        5,
        False,
    ),
    Case("InfermeshDeployerLost", {'router_deployer_connected{namespace="mesh"}': "0x20"}, 10, True),
    Case("InfermeshDeployerLost", {'router_deployer_connected{namespace="mesh"}': "1x20"}, 10, False),
    Case("InfermeshPredictionLogLost", {_BATCHER_LOG: "0+5x40"}, 30, True),
    Case("InfermeshPredictionLogLost", {_BATCHER_LOG: "5x40"}, 30, False),
    Case("InfermeshNotificationsGivenUp", {_GIVEN_UP % "given_up": "0x5 1x10"}, 10, True),
    Case("InfermeshNotificationsGivenUp", {_GIVEN_UP % "postponed": "0+1x20"}, 10, False),
]


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    for name in alerts():
        assert {case.fires for case in CASES if case.alert == name} == {True, False}, name


@pytest.mark.parametrize("alert", sorted({case.alert for case in CASES}))
def test_it_fires_when_it_should(alert: str, tmp_path: Path) -> None:
    by_step: dict[int, list[Case]] = {}
    for case in CASES:
        if case.alert == alert:
            by_step.setdefault(case.step, []).append(case)
    files = [_file(tmp_path / f"step-{step}.yaml", cases) for step, cases in by_step.items()]
    done = subprocess.run(
        [program("promtool"), "test", "rules", *files], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _file(path: Path, cases: Sequence[Case]) -> Path:
    step = f"{cases[0].step}m"
    tests = [
        {
            "name": str(case),
            "interval": step,
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"{case.labels}}}) > bool 0',
                    "eval_time": f"{case.minutes}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if case.fires else [],
                }
            ],
        }
        for case in cases
    ]
    # What is recorded comes before what asks for it, as it does within a minute in life.
    groups = [yaml.safe_load(file.read_text())["groups"] for file in FILES_OF_RULES]
    order = sorted((one["name"] for group in groups for one in group), key=lambda name: name not in _RECORDING)
    document = {
        "rule_files": [str(file) for file in FILES_OF_RULES],
        "evaluation_interval": step,
        "group_eval_order": order,
        "tests": tests,
    }
    path.write_text(yaml.safe_dump(document))
    return path
