"""The dashboard of whoever brings a new version out: who gets what, both versions side by side, what was decided."""

from grafana_foundation_sdk.builders import dashboard

from tools.grafana.frame import MODEL, VERSION, Row, board
from tools.grafana.model import BY, THESE, faulty
from tools.grafana.panels import HERE, RATE, Query, lines, number, quantiles, rate

_MODELS = f'{HERE},model=~"$model"'
_COPIES = "model_shadow_copies_total"


def _traffic() -> Row:
    requests = rate("model_requests_total", THESE, by=BY)
    return Row(
        "Who gets what",
        [
            *(
                number(
                    title,
                    Query(f'sum(router_rollouts{{{HERE},kind="{kind}"}})', title),
                    unit="none",
                    says=f"{title} that run or are paused.",
                )
                for title, kind in (("Canaries", "canary"), ("A/B tests", "ab_test"))
            ),
            number(
                "Limits that hold",
                Query(
                    f'sum(router_rollout_verdicts{{{_MODELS},verdict=~"passing|better|no_difference"}}) or vector(0)',
                    "hold",
                ),
                unit="none",
                says="Limits of canaries and comparisons of tests that speak for the new version, or not against it.",
            ),
            number(
                "Broken limits",
                Query(f'sum(router_rollout_verdicts{{{_MODELS},verdict=~"breached|worse"}}) or vector(0)', "broken"),
                unit="none",
                says="A canary with one is rolled back at once.",
                limits=((1, "red"),),
            ),
            number(
                "Rolled back",
                Query(
                    f'sum(increase(router_rollouts_ended_total{{{HERE},status="rolled_back"}}[$__range])) or vector(0)',
                    "rolled back",
                ),
                unit="none",
                says="Within the time that is shown.",
                limits=((1, "red"),),
                decimals=0,
            ),
            number(
                "Shadow copies a second",
                Query(rate(_COPIES, f'{THESE},result="sent"'), "copies"),
                unit="reqps",
                says="Copies of requests whose answers nobody gets.",
            ),
            lines(
                "Wanted",
                [
                    Query(
                        f"sum by (model, version, role) (router_traffic_percent{{{THESE}}})",
                        "{{model}} {{version}}, {{role}}",
                    )
                ],
                unit="percent",
                says="Shares as the router publishes them, and the share of requests that is copied to shadows.",
                most=100,
            ),
            lines(
                "Answered",
                [
                    Query(
                        f"100 * {requests} / on (model) group_left {rate('model_requests_total', _MODELS, by='model')}",
                        "{{model}} {{version}}",
                    )
                ],
                unit="percent",
                says="By which version requests are answered: where this is not what is wanted, callers name versions.",
                most=100,
            ),
            lines(
                "What rollouts show",
                [
                    Query(
                        f"sum by (model, version, verdict) (router_rollout_verdicts{{{_MODELS}}})",
                        "{{model}} {{version}}: {{verdict}}",
                    )
                ],
                unit="none",
                says="Limits of canaries and comparisons of tests by verdict. `infermesh canary status` has figures.",
                stacked=True,
            ),
        ],
    )


def _versions() -> Row:
    per_second = rate("model_predictions_by_confidence_total", THESE, by=BY)
    low = rate("model_predictions_by_confidence_total", f'{THESE},level="low"', by=BY)
    return Row(
        "Versions side by side",
        [
            lines(
                "Failing",
                [Query(faulty(BY), "{{model}} {{version}}")],
                unit="percentunit",
                says="Requests that failed by the platform's or the model's fault: what decides a canary.",
            ),
            lines(
                "Failures by reason",
                [Query(rate("model_errors_total", THESE, by="version, error_type"), "{{version}} {{error_type}}")],
                unit="reqps",
                says="Also those that callers brought upon themselves.",
            ),
            lines(
                "Unsure",
                [Query(f"{low} / {per_second}", "{{model}} {{version}}")],
                unit="percentunit",
                says="Predictions with a confidence below 0.5.",
            ),
            *(
                lines(
                    f"Latency, {query.legend.split(' ')[0]}",
                    [Query(query.expr, "{{model}} {{version}}", exemplars=True)],
                    unit="ms",
                    says="Inside the batcher, by version.",
                )
                for query in quantiles("model_latency_ms", THESE, by=BY)
            ),
            lines(
                "Classes",
                [Query(rate("model_predictions_by_class", THESE, by="version, class"), "{{version}} {{class}}")],
                unit="none",
                says="Rows a second by what was predicted: versions that disagree show here.",
            ),
            lines(
                "Wait for a batch, p95",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le, model, version) "
                        f'(rate(model_stage_ms_bucket{{{THESE},stage="queue"}}[{RATE}])))',
                        "{{model}} {{version}}",
                    )
                ],
                unit="ms",
                says="A new version with too few replicas waits here before it fails.",
            ),
            lines(
                "Time at model servers, p95",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le, model, version) "
                        f'(rate(model_stage_ms_bucket{{{THESE},stage="backend"}}[{RATE}])))',
                        "{{model}} {{version}}",
                    )
                ],
                unit="ms",
                says="What the version itself takes.",
            ),
        ],
    )


def _decided() -> Row:
    return Row(
        "Shadows, and what was decided",
        [
            lines(
                "Shadow copies",
                [Query(rate(_COPIES, THESE, by="version, result"), "{{version}} {{result}}")],
                unit="reqps",
                says="By what became of them; dropped ones cost nobody anything.",
            ),
            lines(
                "Shadows that disagree",
                [
                    Query(
                        rate(_COPIES, f'{THESE},result="disagreed"', by=BY)
                        + " / "
                        + rate(_COPIES, f'{THESE},result="answered"', by=BY),
                        "{{model}} {{version}}",
                    )
                ],
                unit="percentunit",
                says="Of the copies that were answered. `infermesh shadow show` has examples.",
                most=1,
            ),
            lines(
                "Rollouts that ended",
                [
                    Query(
                        f"sum by (kind, status) (increase(router_rollouts_ended_total{{{HERE}}}[$__range]))",
                        "{{kind}} {{status}}",
                    )
                ],
                unit="none",
                says="Within the time that is shown, by how.",
            ),
        ],
    )


def rollout() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "rollout",
        "infermesh: rollout",
        says="Canaries, A/B tests and shadows: traffic, versions side by side, verdicts.",
        rows=[_traffic(), _versions(), _decided()],
        choices=[MODEL, VERSION],
    )
