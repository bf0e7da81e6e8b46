"""What alerts say, in words that people read at night."""

from collections.abc import Sequence
from datetime import timedelta

from services.common.delivery.slack import escaped
from services.monitor.domain.alerts import Alert
from services.monitor.domain.rules import (
    HOST_METRICS,
    LATENCIES,
    UNUSUAL_TRAFFIC,
    BurnRate,
    DriftAtLeast,
    RuleSpec,
    Threshold,
)
from services.monitor.domain.telling import Stage

_RATES = ("error_rate", "low_confidence_rate", "accuracy")
_NAMES = {
    "error_rate": "the share of failed requests",
    "low_confidence_rate": "the share of predictions with a confidence under 0.5",
    "latency_p50_ms": "the median latency",
    "latency_p95_ms": "the 95th percentile of the latency",
    "latency_p99_ms": "the 99th percentile of the latency",
    "throughput_per_sec": "the number of requests a second",
    "request_count": "the number of requests",
    "cpu_percent": "the CPU in use",
    "memory_percent": "the memory in use",
    "gpu_utilization": "the share of the time in which the GPUs compute",
    "gpu_memory_percent": "the GPUs' memory in use",
}
_SIDES = {">": "above", ">=": "at or above", "<": "below", "<=": "at or below"}
_DRIFT = ("none", "moderate", "high")


def summary_of(spec: RuleSpec, model: str, version: str, value: float) -> str:
    """What is wrong, in one sentence with the values."""
    subject = f"{model} {version}".strip() or "the platform"
    condition = spec.condition
    if isinstance(condition, BurnRate):
        return (
            f"{subject} burns the error budget of {condition.objective:.5g} {value:.3g} times as fast as it may, over "
            f"{span(condition.long_window_s)} and {span(condition.short_window_s)}; the limit is "
            f"{condition.burn_rate:.3g}"
        )
    if isinstance(condition, DriftAtLeast):
        what = ", ".join(condition.features) or "what it is asked and answers"
        return f"{subject}: drift of {what} is {_DRIFT[int(value)]}"
    if isinstance(condition, Threshold):
        return _threshold(condition, subject, value)
    return subject


def _threshold(condition: Threshold, subject: str, value: float) -> str:
    if condition.metric == UNUSUAL_TRAFFIC:
        return (
            f"{subject}: the requests of the last full hour are {value:.3g} deviations from what is usual at this "
            f"time; the limit is {condition.threshold:.3g}"
        )
    name = _NAMES.get(condition.metric, condition.metric)
    return (
        f"{subject}: {name} is {shown(condition.metric, value)} over {span(condition.window_s)}, "
        f"{_SIDES[condition.comparison]} {shown(condition.metric, condition.threshold)}"
    )


def shown(metric: str, value: float) -> str:
    """A value with its unit."""
    if metric in _RATES:
        return f"{value * 100:.4g} %"
    if metric in LATENCIES:
        return f"{value:.4g} ms"
    return f"{value:.4g} %" if metric in HOST_METRICS else f"{value:.6g}"


def span(seconds: int) -> str:
    """A time as people say it: 60 s, 5 min, 6 h."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds % length == 0 and seconds > 60:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def subject_line(stage: str, alerts: Sequence[Alert]) -> str:
    """One line for a message of these alerts."""
    first = alerts[0]
    word = {Stage.RESOLVED: "resolved", Stage.ACKNOWLEDGED: "acknowledged"}.get(Stage(stage), first.severity)
    what = f"{first.model} {first.version}".strip() or "the platform"
    more = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    return f"[{word}] {first.rule}: {what}{more}"


def letter_text(stage: str, alerts: Sequence[Alert]) -> str:
    """The body of an e-mail."""
    parts = []
    for alert in alerts:
        lines = [f"{alert.summary}.", "", *(f"{name + ':':<10}{value}" for name, value in facts(stage, alert))]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def facts(stage: str, alert: Alert) -> list[tuple[str, str]]:
    """What there is to say beside the summary."""
    found = [("Severity", alert.severity), ("Since", f"{alert.started_at:%Y-%m-%d %H:%M:%S} UTC")]
    if stage == Stage.RESOLVED and alert.resolved_at is not None:
        lasted = timedelta(seconds=round((alert.resolved_at - alert.started_at).total_seconds()))
        found.append(("Lasted", str(lasted)))
    else:
        found += [("Cause", alert.probable_cause), ("Undo", alert.undo_command)]
    found += [("Canary", alert.done), ("Alert", alert.alert_id)]
    return [(name, value) for name, value in found if value]


def slack_text(stage: str, alerts: Sequence[Alert]) -> str:
    """A message in Slack's mrkdwn."""
    lines = [f"*{escaped(subject_line(stage, alerts))}*"]
    for alert in alerts:
        lines.append(escaped(alert.summary))
        for name, value in facts(stage, alert):
            text = escaped(value)
            lines.append(f"• {name}: `{text}`" if name in ("Undo", "Alert") else f"• {name}: {text}")
    return "\n".join(lines)
