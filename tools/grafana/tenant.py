"""The dashboard of whoever looks after teams: who asks how much, who is turned away, what it costs."""

from grafana_foundation_sdk.builders import dashboard

from tools.grafana.frame import Choice, Row, board
from tools.grafana.panels import HERE, Query, lines, number, rate, share

_TEAMS = f'{HERE},team=~"$team"'
_LIMIT = "envoy_local_http_ratelimit_prefix"
_PREDICTIONS = rate("team_predictions_total", _TEAMS)


def _price(of: str) -> str:
    return f'on () group_left max(usage_price{{{HERE},of="{of}"}})'


def cost_per_second(by: str) -> str:
    """What teams' requests cost, in the currency of the price table. Storage, which the registry meters by the hour, is
    not in it."""
    requests = rate("team_requests_total", f'{_TEAMS},outcome=~"answered|callers_fault"', by=by)
    computed, gpus = rate("team_compute_seconds_total", _TEAMS, by=by), rate("team_gpu_seconds_total", _TEAMS, by=by)
    return (
        f"{requests} / 1000 * {_price('1000_requests')}"
        f" + {computed} / 3600 * {_price('compute_hour')}"
        f" + {gpus} / 3600 * {_price('gpu_hour')}"
    )


def _now() -> Row:
    return Row(
        "Now",
        [
            number(
                "Requests a second",
                Query(rate("team_requests_total", _TEAMS), "requests"),
                unit="reqps",
                says="Of callers and rows of jobs.",
            ),
            number(
                "Predictions a second",
                Query(rate("team_predictions_total", _TEAMS), "predictions"),
                unit="none",
                says="Rows that were answered.",
            ),
            number(
                "Turned away",
                Query(
                    share("team_requests_total", f'{_TEAMS},outcome="refused"', _TEAMS),
                    "refused",
                ),
                unit="percentunit",
                says="Because there was no room or a quota was reached. What the gateway refuses is not in it.",
                limits=((0.001, "orange"), (0.01, "red")),
                decimals=2,
            ),
            number(
                "Failing",
                Query(
                    share("team_requests_total", f'{_TEAMS},outcome="failed"', _TEAMS),
                    "failed",
                ),
                unit="percentunit",
                says="By the platform's or a model's fault. Nobody pays for these.",
                limits=((0.001, "orange"), (0.01, "red")),
                decimals=2,
            ),
            number(
                "Cost of an hour",
                Query(f"3600 * sum({cost_per_second('team')})", "cost"),
                unit="none",
                says="At this pace, in the currency of `infermesh prices show`, without storage.",
                decimals=4,
            ),
            number(
                "Cost of 1,000 predictions",
                Query(f"1000 * sum({cost_per_second('team')}) / ({_PREDICTIONS} > 0)", "cost"),
                unit="none",
                says="The target is below $0.01.",
                limits=((0.01, "red"),),
                decimals=5,
            ),
        ],
    )


def _teams() -> Row:
    return Row(
        "By team",
        [
            lines(
                "Requests",
                [Query(rate("team_requests_total", _TEAMS, by="team"), "{{team}}")],
                unit="reqps",
                says="Of callers and rows of jobs; without a name: of nobody's team.",
                stacked=True,
            ),
            lines(
                "Outcomes",
                [Query(rate("team_requests_total", _TEAMS, by="team, outcome"), "{{team}} {{outcome}}")],
                unit="reqps",
                says="refused: no room or a quota; callers_fault: would fail anywhere; failed: ours or the model's.",
            ),
            lines(
                "Predictions",
                [Query(rate("team_predictions_total", _TEAMS, by="team"), "{{team}}")],
                unit="none",
                says="Rows a second.",
                stacked=True,
            ),
            lines(
                "Time of model servers",
                [Query(rate("team_compute_seconds_total", _TEAMS, by="team"), "{{team}}")],
                unit="none",
                says="Model servers that are busy for a team, on average: its share of each batch.",
                stacked=True,
            ),
            lines(
                "Time of GPUs",
                [Query(rate("team_gpu_seconds_total", _TEAMS, by="team"), "{{team}}")],
                unit="none",
                says="The same times the GPUs of the replicas; 0 where they have none.",
                stacked=True,
            ),
            lines(
                "Cost of an hour",
                [Query(f"3600 * ({cost_per_second('team')})", "{{team}}")],
                unit="none",
                says="At this pace, without storage. Bills are made of what the monitor stores: `infermesh usage`.",
                stacked=True,
            ),
        ],
    )


def _limits() -> Row:
    return Row(
        "Limits",
        [
            lines(
                "Refused by the gateway's own limits",
                [Query(rate("envoy_http_local_rate_limit_rate_limited", HERE, by=_LIMIT), f"{{{{{_LIMIT}}}}}")],
                unit="reqps",
                says="Of teams and of keys, by each gateway for itself; which team it was is in its answers alone.",
            ),
            lines(
                "Refused by the limiter",
                [Query(rate("limiter_refused_total", _TEAMS, by="team"), "{{team}}")],
                unit="reqps",
                says="By the limits over all gateways, where a limiter counts them.",
            ),
            lines(
                "Judged by the limiter",
                [
                    Query(rate("limiter_calls_total", HERE, by="limit, outcome"), "{{limit}} {{outcome}}"),
                    Query(rate("limiter_unjudged_total", HERE), "let through without an answer"),
                ],
                unit="reqps",
                says="Without an answer: the limiter's Redis is away, and gateways go by their own limits.",
            ),
        ],
    )


def tenant() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "tenant",
        "infermesh: tenants",
        says="Teams: who asks how much, who is turned away, what it costs.",
        rows=[_now(), _teams(), _limits()],
        choices=[Choice("team", f"team_requests_total{{{HERE}}}")],
    )
