"""The dashboard of a model's owner: how it does, by version, and where its time goes."""

from grafana_foundation_sdk.builders import dashboard

from tools.grafana.frame import MODEL, VERSION, Row, board
from tools.grafana.panels import HERE, RATE, Query, lines, number, quantiles, rate
from tools.prometheus_rules import CALLERS_OWN

THESE = f'{HERE},model=~"$model",version=~"$version"'
"""The versions that are chosen."""
BY = "model, version"
FAULTS = f'{THESE},error_type!~"{CALLERS_OWN}"'


_HITS = rate("model_cache_hits_total", THESE, by=BY)


def faulty(by: str = "") -> str:
    """The share of requests that failed by the platform's or the model's fault; 0 where none did."""
    faults, requests = rate("model_errors_total", FAULTS, by=by), rate("model_requests_total", THESE, by=by)
    return f"({faults} or {requests} * 0) / ({requests} > 0)"


def mean(metric: str, by: str) -> str:
    """The average of a histogram's observations."""
    return f"{rate(f'{metric}_sum', THESE, by=by)} / {rate(f'{metric}_count', THESE, by=by)}"


def _now() -> Row:
    return Row(
        "Now",
        [
            number(
                "Requests a second",
                Query(rate("model_requests_total", THESE), "requests"),
                unit="reqps",
                says="All answers.",
            ),
            number(
                "Failing",
                Query(faulty(), "failing"),
                unit="percentunit",
                says="By the platform's or the model's fault. Over 1 % warns.",
                limits=((0.001, "orange"), (0.01, "red")),
                decimals=2,
            ),
            number(
                "p95",
                Query(
                    f"histogram_quantile(0.95, sum by (le) (rate(model_latency_ms_bucket{{{THESE}}}[{RATE}])))",
                    "p95",
                ),
                unit="ms",
                says="Over 200 ms warns.",
                limits=((100, "orange"), (200, "red")),
            ),
            number(
                "Replicas that answer",
                Query(f'sum(max by (model, version) (model_backends{{{THESE},state=~"up|slow_start"}}))', "replicas"),
                unit="none",
                says="Model servers that batchers send to. 0: nobody is answered.",
            ),
            number(
                "Waiting",
                Query(f"sum(model_requests_waiting{{{THESE}}})", "waiting"),
                unit="none",
                says="Requests that wait for a batch, or for a version that is not loaded.",
            ),
            number(
                "Drifting",
                Query(f'sum(model_drift_features{{{THESE},severity!="none"}})', "features"),
                unit="none",
                says="Features and outputs that drift, in the newest report: `infermesh drift report`.",
                limits=((1, "orange"),),
            ),
        ],
    )


def _requests() -> Row:
    return Row(
        "Requests",
        [
            lines(
                "By version",
                [Query(rate("model_requests_total", THESE, by=BY), "{{model}} {{version}}")],
                unit="reqps",
                says="Answered requests, whatever the answer.",
                stacked=True,
            ),
            lines(
                "Failures by reason",
                [Query(rate("model_errors_total", THESE, by="error_type"), "{{error_type}}")],
                unit="reqps",
                says="Also those that callers brought upon themselves.",
                stacked=True,
            ),
            lines(
                "Latency",
                quantiles("model_latency_ms", THESE),
                unit="ms",
                says="Inside the batcher, from arrival to the answer. Marks lead to traces of single requests.",
            ),
            lines(
                "Where the time goes",
                [Query(mean("model_stage_ms", "stage"), "{{stage}}")],
                unit="ms",
                says="On average: read and checked, waiting for its batch, at the model server, written.",
                stacked=True,
            ),
            lines(
                "Wait for a batch",
                quantiles("model_stage_ms", f'{THESE},stage="queue"'),
                unit="ms",
                says="Grows where model servers do not keep up, or where batching gathers for throughput.",
            ),
            lines(
                "Time at model servers",
                quantiles("model_stage_ms", f'{THESE},stage="backend"'),
                unit="ms",
                says="Of a request's batch, there and back.",
            ),
        ],
    )


def _batches() -> Row:
    return Row(
        "Batches and model servers",
        [
            lines(
                "Rows of a batch",
                [Query(mean("model_batch_size", BY), "{{model}} {{version}}")],
                unit="none",
                says="On average. 1 under load: batching does not work.",
            ),
            lines(
                "Rows",
                [
                    Query(f"sum(model_rows_waiting{{{THESE}}})", "waiting"),
                    Query(f"sum(model_rows_in_flight{{{THESE}}})", "at model servers"),
                ],
                unit="none",
                says="At this moment.",
            ),
            lines(
                "Backends by state",
                [Query(f"sum by (state) (model_backends{{{THESE}}})", "{{state}}")],
                unit="none",
                says="Model servers as batchers see them.",
                stacked=True,
            ),
            lines(
                "Batches that failed",
                [Query(rate("model_batch_failures_total", THESE, by="kind"), "{{kind}}")],
                unit="none",
                says="MODEL is the model's own doing; all else is a server's or the network's.",
            ),
            lines(
                "Cold starts",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le, model, version) "
                        f"(rate(batcher_cold_start_seconds_bucket{{{THESE}}}[1h])))",
                        "{{model}} {{version}}, p95",
                    )
                ],
                unit="s",
                says="From the first request for a version that was not loaded to its first batch; of the last hour.",
                limits=((10, "red"),),
            ),
            lines(
                "Processors and GPUs",
                [
                    Query(f"sum by (model, version) (model_cpu_usage{{{THESE}}})", "{{model}} {{version}}, cores"),
                    Query(
                        f"avg by (model, version) (model_gpu_utilization{{{THESE}}})", "{{model}} {{version}}, GPU %"
                    ),
                ],
                unit="none",
                says="Of the version's processes on model servers' hosts.",
            ),
            lines(
                "Memory",
                [Query(f"sum by (model, version) (model_memory_usage_bytes{{{THESE}}})", "{{model}} {{version}}")],
                unit="bytes",
                says="Of the version's processes on model servers' hosts.",
            ),
            lines(
                "Answers out of the cache",
                [
                    Query(
                        f"{_HITS} / ({_HITS} + {rate('model_cache_misses_total', THESE, by=BY)})",
                        "{{model}} {{version}}",
                    )
                ],
                unit="percentunit",
                says="Of versions that are said to be deterministic; others have no cache.",
                most=1,
            ),
        ],
    )


def _predictions() -> Row:
    low = f'{THESE},level="low"'
    return Row(
        "Predictions",
        [
            lines(
                "By class",
                [Query(rate("model_predictions_by_class", THESE, by="class"), "{{class}}")],
                unit="none",
                says="Rows a second.",
                stacked=True,
            ),
            lines(
                "Unsure",
                [
                    Query(
                        f"{rate('model_predictions_by_confidence_total', low, by=BY)}"
                        f" / {rate('model_predictions_by_confidence_total', THESE, by=BY)}",
                        "{{model}} {{version}}",
                    )
                ],
                unit="percentunit",
                says="Predictions with a confidence below 0.5. Over 20 % is an anomaly.",
                limits=((0.2, "red"),),
                most=1,
            ),
            lines(
                "Drift",
                [Query(f"sum by (severity) (model_drift_features{{{THESE}}})", "{{severity}}")],
                unit="none",
                says="Features and outputs by how far they drift from the baseline, in the newest report.",
                stacked=True,
            ),
        ],
    )


def model() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "model",
        "infermesh: model",
        says="How a model does: requests, latency, batches, model servers, what it predicts.",
        rows=[_now(), _requests(), _batches(), _predictions()],
        choices=[MODEL, VERSION],
    )
