"""The lower half of the platform's dashboard: its parts, what serves, what is kept."""

from tools.grafana.frame import Row
from tools.grafana.panels import HERE, RATE, Query, lines, rate

_JOBS = 'job=~"(.*[-/])?(gateway|batcher|limiter|registry|router|deployer|batch|monitor|operator|triton)(-.*)?"'


def parts() -> Row:
    """Which part is up, what it takes, and how calls between parts do."""
    return Row(
        "The parts",
        [
            lines(
                "Up",
                [Query(f"min by (job) (up{{{HERE},{_JOBS}}})", "{{job}}")],
                unit="bool_yes_no",
                says="Whether its metrics can be read. Predictions need gateway, batcher and model servers alone.",
                most=1,
            ),
            lines(
                "Starts within an hour",
                [Query(f"sum by (job) (changes(process_start_time_seconds{{{HERE},{_JOBS}}}[1h]))", "{{job}}")],
                unit="none",
                says="A part that starts again and again dies of something: its log says of what.",
            ),
            lines(
                "Memory",
                [Query(f"sum by (job) (process_resident_memory_bytes{{{HERE},{_JOBS}}})", "{{job}}")],
                unit="bytes",
                says="Of all processes of a part.",
            ),
            lines(
                "Processor time",
                [Query(f"sum by (job) (rate(process_cpu_seconds_total{{{HERE},{_JOBS}}}[{RATE}]))", "{{job}}")],
                unit="none",
                says="Cores in use.",
            ),
            lines(
                "Calls between parts that failed",
                [
                    Query(
                        rate("grpc_server_handled_total", f'{HERE},code!="OK"', by="method, code"),
                        "{{method}} {{code}}",
                    )
                ],
                unit="reqps",
                says="By method and code, also those that callers made wrongly.",
            ),
            lines(
                "Slowest calls between parts",
                [
                    Query(
                        "topk(10, histogram_quantile(0.95, sum by (le, method) "
                        f"(rate(grpc_server_handling_seconds_bucket{{{HERE}}}[{RATE}]))))",
                        "{{method}}",
                    )
                ],
                unit="s",
                says="p95 of the ten slowest methods; streams last as long as they are open.",
            ),
        ],
    )


def serving() -> Row:
    """Where requests wait, and how batches and Triton do."""
    return Row(
        "Batchers and model servers",
        [
            lines(
                "Under way",
                [
                    Query(f"sum(model_active_requests{{{HERE}}})", "being worked on"),
                    Query(f"sum(model_requests_waiting{{{HERE}}})", "waiting for a batch"),
                    Query(f"sum(model_requests_in_flight{{{HERE}}})", "at model servers"),
                ],
                unit="none",
                says="Requests. What waits grows where model servers do not keep up.",
            ),
            lines(
                "Longest queues",
                [Query(f"topk(10, sum by (model) (model_queue_depth{{{HERE}}}))", "{{model}}")],
                unit="none",
                says="Requests that wait for a batch.",
            ),
            lines(
                "Backends by state",
                [Query(f"sum by (state) (model_backends{{{HERE}}})", "{{state}}")],
                unit="none",
                says="Model servers as batchers see them, each once for every version that it has.",
                stacked=True,
            ),
            lines(
                "Batches that failed",
                [Query(rate("model_batch_failures_total", HERE, by="kind"), "{{kind}}")],
                unit="none",
                says="MODEL is the model's own doing; all else is a server's or the network's.",
            ),
            lines(
                "Triton: requests",
                [
                    Query(rate("nv_inference_request_success", HERE), "answered"),
                    Query(rate("nv_inference_request_failure", HERE), "failed"),
                    Query(f"sum(nv_inference_pending_request_count{{{HERE}}})", "waiting inside"),
                ],
                unit="none",
                says="Batches are Triton's requests. Nothing should wait inside: batchers send what it can take.",
            ),
            lines(
                "Triton: time of a request",
                [
                    Query(
                        f"sum(rate(nv_inference_{what}_duration_us{{{HERE}}}[{RATE}]))"
                        f" / sum(rate(nv_inference_exec_count{{{HERE}}}[{RATE}])) / 1000",
                        legend,
                    )
                    for what, legend in (
                        ("compute_infer", "computing"),
                        ("queue", "waiting"),
                        ("compute_input", "reading inputs"),
                        ("compute_output", "writing outputs"),
                    )
                ],
                unit="ms",
                says="On average, of each execution.",
            ),
            lines(
                "Until a version answers",
                [
                    Query(f"max(namespace:deployer_bring_up_seconds:p95_rate1h{{{HERE}}})", "loaded, p95"),
                    Query(f"max(namespace:batcher_cold_start_seconds:p95_rate1h{{{HERE}}})", "cold start, p95"),
                ],
                unit="s",
                says="Promised: 30 s from a deployment to its first answer, 10 s from a request for a cold version.",
                limits=((10, "orange"), (30, "red")),
            ),
        ],
    )


def stores() -> Row:
    """Databases, the prediction log, and how changes of traffic spread."""
    log = "batcher_prediction_log"
    return Row(
        "What is kept",
        [
            lines(
                "Database connections in use",
                [
                    Query(f'sum by (job) (database_connections{{{HERE},state="in_use"}})', "{{job}}"),
                    Query(f"max(database_connections_max{{{HERE}}})", "the most of each process"),
                ],
                unit="none",
                says="All in use: callers wait, and after 5 s are told that the database does not answer.",
            ),
            lines(
                "Time of a statement",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le, job) "
                        f"(rate(database_statement_seconds_bucket{{{HERE}}}[{RATE}])))",
                        "{{job}}",
                    )
                ],
                unit="s",
                says="p95 at PostgreSQL, by part.",
            ),
            lines(
                "Statements that failed",
                [Query(rate("database_failures_total", HERE, by="job"), "{{job}}")],
                unit="none",
                says="Some are tried again. Many: PostgreSQL is away or overloaded.",
            ),
            lines(
                "Prediction log: lost",
                [
                    Query(rate(f"{log}_dropped_total", HERE), "dropped by batchers"),
                    Query(rate("monitor_log_unkept_total", HERE), "counted, not logged one by one"),
                ],
                unit="none",
                says="Requests that were answered and that metrics and bills miss, or that cannot be searched.",
            ),
            lines(
                "Prediction log: waiting",
                [
                    Query(f"sum({log}_held{{{HERE}}})", "at batchers"),
                    Query(
                        "histogram_quantile(0.95, sum by (le) "
                        f"(rate(monitor_flush_seconds_bucket{{{HERE}}}[{RATE}]))) * 1000",
                        "p95 of storing a part, ms",
                    ),
                ],
                unit="none",
                says="Requests that the monitor has not acknowledged; a batcher holds 200,000, then drops.",
            ),
            lines(
                "Changes of traffic",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le) "
                        f"(rate(router_publication_seconds_bucket{{{HERE}}}[{RATE}])))",
                        "p95",
                    ),
                    Query(f"sum(increase(router_late_batchers_total{{{HERE}}}[{RATE}]))", "batchers that were late"),
                ],
                unit="s",
                says="From a change to its acknowledgement by gateways.",
            ),
        ],
    )
