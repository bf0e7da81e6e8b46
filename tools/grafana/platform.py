"""The dashboard of whoever is paged for the whole: are promises kept, what comes in, which part is not well."""

from grafana_foundation_sdk.builders import dashboard

from tools.grafana.frame import Row, board
from tools.grafana.panels import HERE, Query, lines, number, quantiles, rate
from tools.grafana.platform_parts import parts, serving, stores
from tools.prometheus_rules import AVAILABILITY, WITHIN_100_MS

_BUDGET, _SLOW_BUDGET = round(1 - AVAILABILITY, 6), round(1 - WITHIN_100_MS, 6)
_GATEWAY = f'{HERE},envoy_http_conn_manager_prefix="gateway"'
_DOOR = "envoy_extension_config_discovery_http_filter_infermesh"
_BURNS = ((1, "orange"), (14.4, "red"))


def _objectives() -> Row:
    spent = (
        f"sum(sum_over_time(namespace:model_faults:rate5m{{{HERE}}}[30d]))"
        f" / sum(sum_over_time(namespace:model_requests:rate5m{{{HERE}}}[30d]))"
    )
    return Row(
        "What is promised",
        [
            number(
                "Available, 3 days",
                Query(f"1 - max(namespace:model_fault_ratio:rate3d{{{HERE}}})", "available"),
                unit="percentunit",
                says="Requests that did not fail by our own fault. The promise is 99.95 %.",
                decimals=3,
            ),
            number(
                "Budget left, 30 days",
                Query(f"1 - ({spent}) / {_BUDGET}", "left"),
                unit="percentunit",
                says="Of the failures that 99.95 % allows in 30 days. Below 0: the promise is broken.",
                limits=((0.25, "green"),),
                decimals=1,
            ),
            number(
                "Burn, 1 hour",
                Query(f"max(namespace:model_fault_ratio:rate1h{{{HERE}}}) / {_BUDGET}", "burn"),
                unit="none",
                says="How many times faster than allowed the budget burns. Over 14.4 pages.",
                limits=_BURNS,
                decimals=1,
            ),
            number(
                "p95",
                Query(f"max(namespace:model_latency_ms:p95_rate5m{{{HERE}}})", "p95"),
                unit="ms",
                says="95 % of requests are answered within this. The promise is 100 ms.",
                limits=((100, "red"),),
            ),
            number(
                "Requests a second",
                Query(f"sum(namespace:model_requests:rate5m{{{HERE}}})", "requests"),
                unit="reqps",
                says="Whatever the answer, over five minutes.",
            ),
            number(
                "Alerts that fire",
                Query(f"sum(monitor_alerts_firing{{{HERE}}})", "alerts"),
                unit="none",
                says="Of models and rollouts, which nobody looks after yet: `infermesh alerts list`.",
                limits=((1, "orange"),),
            ),
            lines(
                "Burn of the availability budget",
                [
                    Query(f"max(namespace:model_fault_ratio:rate{window}{{{HERE}}}) / {_BUDGET}", window)
                    for window in ("5m", "1h", "6h", "3d")
                ],
                unit="none",
                says="1: the budget of 30 days lasts for 30 days. Two windows over their limit at once page.",
                limits=_BURNS,
            ),
            lines(
                "Burn of the latency budget",
                [
                    Query(
                        f"max(namespace:model_latency_beyond_100ms:ratio_rate{window}{{{HERE}}}) / {_SLOW_BUDGET}",
                        window,
                    )
                    for window in ("5m", "1h", "6h", "3d")
                ],
                unit="none",
                says="Requests that took more than 100 ms, of the 5 % that may.",
                limits=_BURNS,
            ),
            lines(
                "Latency inside the batcher",
                quantiles("model_latency_ms", HERE),
                unit="ms",
                says="From arrival to the answer, errors included. Marks lead to traces of single requests.",
                limits=((50, "orange"), (100, "red")),
            ),
        ],
    )


def _traffic() -> Row:
    return Row(
        "What comes in",
        [
            lines(
                "Answers by status",
                [Query(rate("model_requests_total", HERE, by="status"), "{{status}}")],
                unit="reqps",
                says="Requests that reached a batcher.",
                stacked=True,
            ),
            lines(
                "Failures by reason",
                [Query(rate("model_errors_total", HERE, by="error_type"), "{{error_type}}")],
                unit="reqps",
                says="Also those that callers brought upon themselves.",
                stacked=True,
            ),
            lines(
                "At the gateway",
                [
                    Query(
                        rate("envoy_http_downstream_rq_xx", _GATEWAY, by="envoy_response_code_class"),
                        "{{envoy_response_code_class}}xx",
                    )
                ],
                unit="reqps",
                says="Everything that callers ask, refused at the door or not.",
                stacked=True,
            ),
            lines(
                "Latency at the gateway",
                quantiles("envoy_http_downstream_rq_time", _GATEWAY),
                unit="ms",
                says="As callers see it, but for the network. Beside the batcher's: what the gateway adds.",
            ),
            lines(
                "Refused at the door",
                [
                    Query(rate(f"{_DOOR}_authentication_jwt_authn_denied", HERE), "without a key that holds"),
                    Query(rate(f"{_DOOR}_admission_rbac_denied", HERE), "not allowed"),
                    Query(rate("envoy_http_local_rate_limit_rate_limited", HERE), "over a limit"),
                ],
                unit="reqps",
                says="By the gateway itself; no other part hears of these.",
            ),
            lines(
                "Busiest models",
                [Query(f"topk(10, sum by (model) (model:model_requests:rate5m{{{HERE}}}))", "{{model}}")],
                unit="reqps",
                says="Ten of them, over five minutes.",
            ),
            lines(
                "Models that fail most",
                [Query(f"topk(10, max by (model) (model:model_fault_ratio:rate5m{{{HERE}}}))", "{{model}}")],
                unit="percentunit",
                says="By our own fault or their own.",
            ),
            lines(
                "Slowest models",
                [Query(f"topk(10, max by (model) (model:model_latency_ms:p95_rate5m{{{HERE}}}))", "{{model}}")],
                unit="ms",
                says="Their p95 over five minutes.",
            ),
            lines(
                "Rows a second",
                [
                    Query(f"sum(namespace:model_rows:rate5m{{{HERE}}})", "predicted in all"),
                    Query(f"sum(namespace:batch_rows:rate5m{{{HERE}}})", "of jobs"),
                ],
                unit="none",
                says="Rows that model servers answered; those of jobs are among them.",
            ),
        ],
    )


def platform() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "platform",
        "infermesh: platform",
        says="Whether the mesh keeps its promises, what comes in, and which part is not well.",
        rows=[_objectives(), _traffic(), parts(), serving(), stores()],
    )
