"""Conditions of alert rules as people write and read them: `error_rate > 5%`, `0.999 1h 5m 14.4`."""

import re

import typer
from infermesh.client.cli.quantities import parse_length
from infermesh.monitor.v1 import alert_pb2

_WHEN = re.compile(
    r"\s*(?P<metric>[A-Za-z][\w.-]*)\s*(?P<comparison>>=|<=|>|<)\s*(?P<threshold>[-+0-9.eE]+)(?P<percent>%?)\s*"
)
_BURN = re.compile(r"\s*(?P<objective>0?\.\d+)\s+(?P<long>\S+)\s+(?P<short>\S+)\s+(?P<rate>\d+(\.\d+)?)\s*")


def read_when(text: str) -> alert_pb2.ThresholdCondition:
    """The condition that "error_rate > 0.05" or "error_rate > 5%" states. Raises typer.BadParameter."""
    match = _WHEN.fullmatch(text)
    try:
        threshold = float(match["threshold"]) if match else 0.0
    except ValueError:
        match = None
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no condition; say for instance 'error_rate > 5%' or 'latency_p95_ms > 200'",
            param_hint="--when",
        )
    return alert_pb2.ThresholdCondition(
        metric=match["metric"],
        comparison=match["comparison"],
        threshold=threshold / 100 if match["percent"] else threshold,
    )


def read_burn(text: str, latency_ms: float) -> alert_pb2.BurnRateCondition:
    """The condition that "0.999 1h 5m 14.4" states: objective, both windows, rate. Raises typer.BadParameter."""
    match = _BURN.fullmatch(text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no burn rate; say objective, long window, short window and rate, for instance "
            "'0.999 1h 5m 14.4'",
            param_hint="--burn",
        )
    return alert_pb2.BurnRateCondition(
        objective=float(match["objective"]),
        indicator="latency" if latency_ms else "success",
        latency_ms=latency_ms,
        long_window_s=seconds(match["long"], "--burn"),
        short_window_s=seconds(match["short"], "--burn"),
        burn_rate=float(match["rate"]),
    )


def seconds(text: str, option: str) -> int:
    """A length of time in whole seconds. Raises typer.BadParameter."""
    return round(parse_length(text, option).total_seconds())


def condition_words(rule: alert_pb2.AlertRule) -> str:
    """The condition in one line."""
    kind = rule.WhichOneof("condition")
    if kind == "threshold":
        one = rule.threshold
        lasting = f" for {span(one.for_s)}" if one.for_s else ""
        return f"{one.metric} {one.comparison} {one.threshold:g} over {span(one.window_s)}{lasting}"
    if kind == "burn_rate":
        burn = rule.burn_rate
        what = f"within {burn.latency_ms:g} ms" if burn.indicator == "latency" else "answered well"
        return (
            f"budget of {burn.objective:g} {what} burns {burn.burn_rate:g} times too fast over "
            f"{span(burn.long_window_s)} and {span(burn.short_window_s)}"
        )
    if kind == "drift":
        features = f" of {', '.join(rule.drift.features)}" if rule.drift.features else ""
        return f"drift{features} at least {rule.drift.min_severity}"
    return f"any of {', '.join(rule.event.events)}"


def span(length_s: int) -> str:
    """A length of time as it is written: 90s, 5m, 6h."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if length_s and length_s % size == 0:
            return f"{length_s // size}{unit}"
    return f"{length_s}s"
