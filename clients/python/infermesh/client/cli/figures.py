"""Figures of rollouts for people: each metric in its unit, percents with as many digits as say something."""

import math

from infermesh.client.cli.intervals import bound

_SHARES = ("error_rate", "accuracy", "prediction_shift", "shadow_disagreement", "confidence")


def is_share(metric: str) -> bool:
    """Whether a metric or criterion is a share from 0 to 1, which people read in percent."""
    return metric.startswith(_SHARES) or metric.endswith(".decrease_max")


def unit(metric: str) -> str:
    """The unit that is written behind a metric's name; empty where it has none."""
    if is_share(metric):
        return "%"
    return "ms" if metric == "latency" or metric.endswith("_ms") else ""


def figure(metric: str, value: float, *, signed: bool = False) -> str:
    """A value of a metric, with its unit: "1.25 %", "48.2 ms", "1.2×", "0.031"."""
    value = bound(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    sign = "+" if signed else ""
    if is_share(metric):
        return f"{_short(value * 100, sign)} %"
    if metric.endswith("_ratio_max"):
        return f"{_short(value, sign)}×"
    return f"{_short(value, sign)} ms" if unit(metric) == "ms" else _short(value, sign)


def count(value: float) -> str:
    """A whole number for people: "12,345"."""
    return f"{value:,.0f}"


def _short(value: float, sign: str) -> str:
    """Three digits that count, never in powers of ten where people read them, and no -0."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.2e}" if abs(value) < 1e-4 else f"{value:{sign}.3g}"
