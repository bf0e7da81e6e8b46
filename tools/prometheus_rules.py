"""Prometheus' rules for what SPEC.md promises, written into the chart: `python -m tools.prometheus_rules [--check]`.

Out of code because windows repeat, and because whose fault a failure is stands in one place (monitor/domain/faults.py).
Names are level:metric:operations, as Prometheus recommends; a level is what is left of the labels. `namespace` is empty
where no cluster gives one. Alerts on error budgets use two windows at once and the factors of The Site Reliability
Workbook (Beyer and others, 2018), chapter 5: of a budget of 30 days 2, 5, 10 and 10 % in 1 h, 6 h, 1 d and 3 d.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from services.common.errors import Reason
from services.monitor.domain.faults import is_fault

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "helm" / "infermesh" / "rules"
_HEAD = "# Made by tools/prometheus_rules.py; change it there, then `make chart`.\n"

Rule = Mapping[str, object]
Group = Mapping[str, object]

AVAILABILITY = 0.9995
ERROR_RATE = 0.001
WITHIN_100_MS = 0.95
WITHIN_50_MS = 0.50
FEATURES_WITHIN_10_MS = 0.99
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
CALLERS_OWN = "|".join(sorted(reason.name for reason in Reason if not is_fault(reason.name)))
"""Failures that any version would have had; an unknown reason is a fault."""


@dataclass(frozen=True)
class Burn:
    """A budget of 30 days burns this much too fast, over both windows."""

    factor: float
    long: str
    short: str
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", "critical"),
    Burn(6, "6h", "30m", "critical"),
    Burn(3, "1d", "2h", "warning"),
    Burn(1, "3d", "6h", "warning"),
)


def _record(name: str, expr: str) -> Rule:
    return {"record": name, "expr": expr}


def _alert(
    name: str, expr: str, *, severity: str, summary: str, do: str, wait: str = "", keep: str = "", **labels: str
) -> Rule:
    rule: dict[str, object] = {"alert": name, "expr": expr}
    if wait:
        rule["for"] = wait
    if keep:
        rule["keep_firing_for"] = keep
    return rule | {"labels": {"severity": severity} | labels, "annotations": {"summary": summary, "description": do}}


def _beyond(metric: str, bound: str, window: str) -> str:
    """The share of a histogram's observations that are beyond one of its bounds."""
    within = f'sum by (namespace) (rate({metric}_bucket{{le="{bound}"}}[{window}]))'
    return f"1 - {within} / sum by (namespace) (rate({metric}_count[{window}]))"


def recordings() -> Sequence[Group]:
    """What dashboards and alerts ask for again and again, added up once."""
    ratios: list[Rule] = []
    for window in WINDOWS:
        requests, faults = f"namespace:model_requests:rate{window}", f"namespace:model_faults:rate{window}"
        ratios += [
            _record(requests, f"sum by (namespace) (rate(model_requests_total[{window}]))"),
            _record(
                faults,
                f'sum by (namespace) (rate(model_errors_total{{error_type!~"{CALLERS_OWN}"}}[{window}]))'
                f" or {requests} * 0",
            ),
            _record(f"namespace:model_fault_ratio:rate{window}", f"{faults} / ({requests} > 0)"),
            _record(
                f"namespace:model_latency_beyond_100ms:ratio_rate{window}", _beyond("model_latency_ms", "100", window)
            ),
        ]
    models: list[Rule] = [
        _record("model:model_requests:rate5m", "sum by (namespace, model) (rate(model_requests_total[5m]))"),
        _record(
            "model:model_fault_ratio:rate5m",
            f'(sum by (namespace, model) (rate(model_errors_total{{error_type!~"{CALLERS_OWN}"}}[5m]))'
            " or model:model_requests:rate5m * 0) / (model:model_requests:rate5m > 0)",
        ),
        _record(
            "model:model_latency_ms:p95_rate5m",
            "histogram_quantile(0.95, sum by (namespace, model, le) (rate(model_latency_ms_bucket[5m])))",
        ),
    ]
    whole: list[Rule] = [
        *(
            _record(
                f"namespace:model_latency_ms:p{share}_rate5m",
                f"histogram_quantile(0.{share}, sum by (namespace, le) (rate(model_latency_ms_bucket[5m])))",
            )
            for share in (50, 95, 99)
        ),
        _record("namespace:model_rows:rate5m", "sum by (namespace) (rate(model_batch_size_sum[5m]))"),
        _record("namespace:batch_rows:rate5m", "sum by (namespace) (rate(batch_rows_total[5m]))"),
        _record("namespace:model_gpu_utilization:avg", "avg by (namespace) (model_gpu_utilization)"),
        _record(
            "namespace:batcher_cold_start_seconds:p95_rate1h",
            "histogram_quantile(0.95, sum by (namespace, le) (rate(batcher_cold_start_seconds_bucket[1h])))",
        ),
        _record(
            "namespace:deployer_bring_up_seconds:p95_rate1h",
            "histogram_quantile(0.95, sum by (namespace, le) (rate(deployer_bring_up_seconds_bucket[1h])))",
        ),
        _record(
            "namespace:model_feature_retrieval_ms:p99_rate5m",
            "histogram_quantile(0.99, sum by (namespace, le) (rate(model_feature_retrieval_ms_bucket[5m])))",
        ),
    ]
    return (
        {"name": "infermesh-ratios", "interval": "30s", "rules": ratios},
        {"name": "infermesh-models", "interval": "30s", "rules": models},
        {"name": "infermesh-targets", "interval": "30s", "rules": whole},
    )


def budgets() -> Sequence[Group]:
    """Error budgets that burn too fast."""
    found: list[Rule] = []
    for burn in BURNS:
        for name, ratio, objective, what in (
            ("InfermeshAvailabilityBudget", "model_fault_ratio:rate", AVAILABILITY, "failed by our own fault"),
            ("InfermeshLatencyBudget", "model_latency_beyond_100ms:ratio_rate", WITHIN_100_MS, "took more than 100 ms"),
        ):
            budget = round(burn.factor * (1 - objective), 6)
            if budget >= 1:
                continue
            long, short = f"namespace:{ratio}{burn.long}", f"namespace:{ratio}{burn.short}"
            found.append(
                _alert(
                    name,
                    f"{long} > {budget:g} and {short} > {budget:g}",
                    severity=burn.severity,
                    window=burn.long,
                    summary=f"{{{{ $value | humanizePercentage }}}} of requests {what} over {burn.long}; "
                    f"the objective is {objective * 100:g} % within it, and a budget of 30 days burns {burn.factor:g} "
                    "times as fast as it may",
                    do="`infermesh status` shows what is not well, `infermesh traffic history MODEL` the last changes "
                    "and `infermesh traffic undo MODEL` takes the last one back",
                )
            )
    return ({"name": "infermesh-budgets", "interval": "30s", "rules": found},)


def targets() -> Sequence[Group]:
    """What SPEC.md promises beside the budgets."""
    some_traffic = "and on (namespace) namespace:model_requests:rate1h > 0.3"
    busy_model = "and on (namespace, model) model:model_requests:rate5m > 0.3"
    rules = [
        _alert(
            "InfermeshErrorRate",
            f"namespace:model_fault_ratio:rate1h > {ERROR_RATE:g} {some_traffic}",
            wait="10m",
            severity="warning",
            summary="{{ $value | humanizePercentage }} of requests failed over an hour; the target is below 0.1 %",
            do="`infermesh status` says which versions fail and why",
        ),
        _alert(
            "InfermeshMedianLatency",
            f"namespace:model_latency_ms:p50_rate5m > 50 {some_traffic}",
            wait="10m",
            severity="warning",
            summary="half of all requests take more than {{ $value | humanize }} ms; the target is 50 ms",
            do="the dashboard's stages show where the time goes, and `infermesh metrics MODEL` which version is slow",
        ),
        _alert(
            "InfermeshModelErrors",
            f"model:model_fault_ratio:rate5m > 0.01 {busy_model}",
            wait="5m",
            severity="warning",
            summary="{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} fail",
            do="`infermesh metrics {{ $labels.model }}` shows which version; "
            "`infermesh rollback {{ $labels.model }}` goes back to the one before",
        ),
        _alert(
            "InfermeshModelSlow",
            f"model:model_latency_ms:p95_rate5m > 200 {busy_model}",
            wait="10m",
            severity="warning",
            summary="one in twenty requests to {{ $labels.model }} takes more than {{ $value | humanize }} ms",
            do="`infermesh metrics {{ $labels.model }}` shows which version; more replicas help where requests wait: "
            "`infermesh update MODEL DEPLOYMENT --replicas N`",
        ),
        _alert(
            "InfermeshLoadSlow",
            "sum by (namespace) (increase(deployer_bring_up_seconds_count[1h]))"
            ' - sum by (namespace) (increase(deployer_bring_up_seconds_bucket{le="30.0"}[1h])) > 0.5',
            severity="warning",
            summary="{{ $value | humanize }} versions took more than 30 s to answer within the last hour",
            do="`infermesh events MODEL DEPLOYMENT` says which step took so long",
        ),
        _alert(
            "InfermeshColdStartSlow",
            "sum by (namespace) (increase(batcher_cold_start_seconds_count[1h]))"
            ' - sum by (namespace) (increase(batcher_cold_start_seconds_bucket{le="10"}[1h])) > 0.5',
            severity="warning",
            summary="{{ $value | humanize }} first requests waited more than 10 s for their version within an hour",
            do="`infermesh events MODEL DEPLOYMENT` says why it was unloaded; pin what must answer at once",
        ),
        _alert(
            "InfermeshFeaturesSlow",
            f"{_beyond('model_feature_retrieval_ms', '10', '5m')} > {1 - FEATURES_WITHIN_10_MS:g}",
            wait="10m",
            severity="warning",
            summary="{{ $value | humanizePercentage }} of feature retrievals take more than 10 ms",
            do="see whether the feature store is near and well; the batcher's `/debug/batcher` shows its connection",
        ),
        _alert(
            "InfermeshBatchStalled",
            "sum by (namespace) (batch_jobs_running) > 0 and sum by (namespace) (rate(batch_rows_total[15m])) == 0",
            wait="15m",
            severity="warning",
            summary="{{ $value }} batch jobs run and no row has been done for a quarter of an hour",
            do="`infermesh batch list --status running` and `infermesh batch show JOB` say what each waits for",
        ),
        _alert(
            "InfermeshGpuIdle",
            "namespace:model_gpu_utilization:avg < 80 and on (namespace) sum by (namespace) (model_queue_depth) > 0",
            wait="15m",
            severity="info",
            summary="GPUs are busy {{ $value | humanize }} % of the time while requests wait; the target is 80 %",
            do="let batches grow: a larger `batching.max_batch_size` of the deployment, or more requests at once",
        ),
    ]
    return ({"name": "infermesh-targets-missed", "interval": "30s", "rules": rules},)


def parts() -> Sequence[Group]:
    """What of the mesh itself is not well."""
    rules = [
        _alert(
            "InfermeshPartDown",
            'up{job=~"(.*[-/])?(gateway|batcher|limiter|registry|router|deployer|batch|monitor|operator)"} == 0',
            wait="2m",
            severity="critical",
            summary="{{ $labels.job }} at {{ $labels.instance }} does not answer",
            do="`infermesh status` names its log; predictions go on without all but gateway and batcher",
        ),
        _alert(
            "InfermeshNoBackend",
            'sum by (namespace, model, version) (model_backends{state=~"up|slow_start"}) == 0'
            " and on (namespace, model, version) sum by (namespace, model, version) (model_requests_waiting) > 0",
            wait="1m",
            severity="critical",
            summary="requests wait for {{ $labels.model }} {{ $labels.version }}, and no server that has it answers",
            do="`infermesh deployments {{ $labels.model }}` says why what does not answer does not",
        ),
        _alert(
            "InfermeshDeployerLost",
            "min by (namespace) (router_deployer_connected) == 0",
            wait="5m",
            severity="warning",
            summary="the router has not heard of the deployer for five minutes; changes of deployments reach nobody",
            do="`infermesh status` says whether the deployer runs and what its log is",
        ),
        _alert(
            "InfermeshPredictionLogLost",
            "sum by (namespace) (rate(batcher_prediction_log_dropped_total[10m])) > 0",
            wait="10m",
            severity="warning",
            summary="{{ $value | humanize }} requests a second are answered and missed by metrics, evidence and usage",
            do="see whether the monitor and its PostgreSQL are well; `monitor_flush_seconds` says how slow it is",
        ),
        _alert(
            "InfermeshNotificationsGivenUp",
            'sum by (namespace, means) (increase(batch_notifications_total{outcome="given_up"}[1h])) > 0',
            severity="warning",
            summary="{{ $value | humanize }} notifications by {{ $labels.means }} were given up within the last hour",
            do="the batch service's log says why, by job",
        ),
    ]
    return ({"name": "infermesh-parts", "interval": "30s", "rules": rules},)


FILES = {"recording.yaml": recordings, "budgets.yaml": budgets, "targets.yaml": targets, "parts.yaml": parts}


def text_of(groups: Sequence[Group]) -> str:
    """As Prometheus reads it."""
    document = {"groups": [dict(group) for group in groups]}
    return _HEAD + yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)


def main() -> int:
    """Writes the files, or says which are stale."""
    parser = argparse.ArgumentParser(description="Prometheus' rules into the chart")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not as it would be")
    check = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, groups in FILES.items():
        path, text = FOLDER / name, text_of(groups())
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    if check and stale:
        print(f"stale: {', '.join(stale)}; run `make chart`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
