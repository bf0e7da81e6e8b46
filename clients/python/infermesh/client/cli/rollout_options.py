"""Stages and limits of a canary as people type them: `10%/30m`, `ctr:min=0.1,decrease_max=5%`."""

import re
from collections.abc import Sequence

import typer
from infermesh.client.cli.quantities import parse_fraction, parse_length, parse_number, parse_percent
from infermesh.router.v1 import traffic_rule_pb2

_METRIC = re.compile(r"([^:=\s]+):(.+)")
_METRIC_EXAMPLE = "ctr:min=0.1 or ctr:decrease_max=5%"


def parse_stages(stages: Sequence[str], option: str = "--stage") -> list[traffic_rule_pb2.CanaryStage]:
    """Each PERCENT[/TIME], growing. A last stage of 100 % is added where it is missing. Raises typer.BadParameter."""
    made: list[traffic_rule_pb2.CanaryStage] = []
    for text in stages:
        share, _, time = text.partition("/")
        percent = parse_percent(share, option, least=1)
        if made and percent <= made[-1].percent:
            raise typer.BadParameter(
                f"a stage of {percent} % cannot follow one of {made[-1].percent} %; shares must grow", param_hint=option
            )
        duration_s = 0.0
        if time and time.strip() != "0":
            duration_s = parse_length(time, option, example="10%/30m, 50%/2h or 25%/1d").total_seconds()
        made.append(traffic_rule_pb2.CanaryStage(percent=percent, duration_minutes=duration_s / 60))
    if made and made[-1].percent != 100:
        made.append(traffic_rule_pb2.CanaryStage(percent=100))
    return made


def parse_metric(text: str, option: str = "--metric") -> traffic_rule_pb2.MetricCriterion:
    """NAME:LIMIT=VALUE[,LIMIT=VALUE…] with the limits min, max and decrease_max. Raises typer.BadParameter."""
    match = _METRIC.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no limit of a metric; say NAME:LIMIT=VALUE, for instance {_METRIC_EXAMPLE}", param_hint=option
        )
    made = traffic_rule_pb2.MetricCriterion(name=match[1])
    for limit in match[2].split(","):
        name, _, value = limit.strip().partition("=")
        if name == "decrease_max":
            made.decrease_max = parse_fraction(value, option)
        elif name == "min":
            made.min = parse_number(value, option)
        elif name == "max":
            made.max = parse_number(value, option)
        else:
            raise typer.BadParameter(
                f"{name!r} is no limit of {match[1]}; say min, max or decrease_max, for instance {_METRIC_EXAMPLE}",
                param_hint=option,
            )
    return made


def criteria(
    *,
    shares: "dict[str, str]",
    latency_p95_max_ms: float | None = None,
    latency_p99_max_ms: float | None = None,
    latency_p95_ratio_max: float | None = None,
    requests_min: int | None = None,
    metrics: Sequence[str] = (),
) -> traffic_rule_pb2.SuccessCriteria | None:
    """The limits of a canary; None where nothing is said. `shares` are texts by field. Raises typer.BadParameter."""
    made = traffic_rule_pb2.SuccessCriteria(
        latency_p95_max_ms=latency_p95_max_ms,
        latency_p99_max_ms=latency_p99_max_ms,
        latency_p95_ratio_max=latency_p95_ratio_max,
        requests_min=requests_min,
        metrics=[parse_metric(text) for text in metrics],
    )
    for field, text in shares.items():
        if text:
            setattr(made, field, parse_fraction(text, f"--{field.replace('_', '-')}"))
    return made if made.ListFields() else None
