"""A canary, drawn: how far it is, how it stands against each limit, and what its stages were judged by."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.client.canaries import ENDED
from infermesh.client.cli.figures import count, figure
from infermesh.client.cli.intervals import LIMIT, axis, bound, drawn
from infermesh.client.cli.limits import limit_of, measured_text
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.quantities import length
from infermesh.client.cli.traffic_views import plan_shown
from infermesh.router.v1 import canary_pb2, router_service_pb2, traffic_rule_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_DRAWN_WIDTH = 40
STAGES_DEFAULT = (
    traffic_rule_pb2.CanaryStage(percent=1, duration_minutes=10),
    traffic_rule_pb2.CanaryStage(percent=10, duration_minutes=30),
    traffic_rule_pb2.CanaryStage(percent=50, duration_minutes=60),
    traffic_rule_pb2.CanaryStage(percent=100),
)
"""What a canary does where nothing is said."""


def canary_shown(canary: canary_pb2.Canary, now: datetime) -> RenderableType:
    """A canary as it stands at `now`."""
    title = (
        f"[bold]{escape(canary.model_name)}[/] {escape(canary.version)} in place of "
        f"{escape(canary.baseline_version)}: {state(canary.status)} at {canary.percent} %"
    )
    about = facts(
        (
            ("deployment", escape(canary.deployment_name)),
            ("stages", stage_bar(canary)),
            ("stage", _time_left(canary, now)),
            ("started", _by(canary.created_at, canary.created_by)),
            ("ended", when(canary.ended_at)),
            ("why", escape(canary.status_reason)),
            ("etag", escape(canary.etag)),
        )
    )
    parts: list[RenderableType] = [title, about]
    if canary.evidence_error:
        parts.append(f"[yellow]nothing is judged at the moment: {escape(canary.evidence_error)}[/]")
    if canary.results:
        parts += ["", *criteria_drawn(canary.results)]
    if canary.history:
        parts += ["", _history(canary.history)]
    if canary.status == "rolled_back":
        again = f"infermesh canary start {canary.model_name} {canary.deployment_name}"
        parts.append(
            f"[dim]{escape(canary.version)} is still deployed, to look into; {escape(again)} tries it again.[/]"
        )
    return Group(*parts)


def stage_bar(canary: canary_pb2.Canary) -> str:
    """The stages in a row: those behind it, the one it is in, those ahead."""
    promoted = canary.status == "promoted"
    pieces = []
    for place, stage in enumerate(canary.config.stages):
        if promoted or place < canary.stage:
            pieces.append(f"[green]✓ {stage.percent} %[/]")
        elif place == canary.stage:
            mark = "✗" if canary.status in ENDED else "‖" if canary.status == "paused" else "▶"
            colour = "red" if mark == "✗" else "yellow"
            pieces.append(f"[bold {colour}]{mark} {stage.percent} %[/]")
        else:
            pieces.append(f"[dim]· {stage.percent} %[/]")
    return " ─ ".join(pieces)


def _time_left(canary: canary_pb2.Canary, now: datetime) -> str:
    if canary.status in ENDED:
        return ""
    spent = length((now - _moment(canary.stage_started_at)).total_seconds())
    if canary.HasField("held_since"):
        left = ""
        if canary.HasField("hold_ends_at"):
            left_s = (_moment(canary.hold_ends_at) - now).total_seconds()
            left = f"; rolled back in {length(left_s)} if that stays so"
        return (
            f"[yellow]held[/] for {length((now - _moment(canary.held_since)).total_seconds())}: not enough data{left}"
        )
    if canary.HasField("stage_ends_at"):
        left_s = (_moment(canary.stage_ends_at) - now).total_seconds()
        return f"{length(left_s)} left, {spent} gone" if left_s > 0 else f"its time is over, {spent} gone"
    return f"{spent} gone; its time does not run"


def criteria_drawn(results: Sequence[canary_pb2.CriterionResult]) -> list[str]:
    """How a canary stands against each limit: the values in words, then the interval with the limit as a bar (┃).

    Two lines each, as rich markup, that fit in 80 columns and say without colours what they say with them.
    """
    lines: list[str] = []
    for one in results:
        lines.append(f"{escape(measured_text(one))}: {state(one.verdict)}")
        lines.append(f"  {criterion_drawn(one):<{_DRAWN_WIDTH}}  [dim]{count(one.request_count)} samples[/]")
    return lines


def criterion_drawn(result: canary_pb2.CriterionResult, *, width: int = _DRAWN_WIDTH) -> str:
    """The interval of what was measured with the limit marked; empty where nothing is known."""
    if not result.request_count or math.isnan(result.measured):
        return ""
    low, high, limit = bound(result.low), bound(result.high), limit_of(result).value
    span = axis((low, result.measured, high, limit), width=width)
    return drawn(span, low=low, value=result.measured, high=high, marks={limit: LIMIT})


def _history(records: Sequence[canary_pb2.CanaryStageRecord]) -> Table:
    shown = table("stage", "share", "began", "took", "ended", "by", right=["share"])
    for one in records:
        took = (_moment(one.ended_at) - _moment(one.started_at)).total_seconds()
        telling = "waiting" if one.outcome == "not_enough_data" else "breached"
        worst = [item for item in one.results if item.verdict == telling]
        by = "; ".join(measured_text(item) for item in worst)
        shown.add_row(
            str(one.stage + 1), f"{one.percent} %", when(one.started_at), length(took), state(one.outcome), escape(by)
        )
    return shown


def canaries_listed(canaries: Sequence[canary_pb2.Canary]) -> RenderableType:
    """Canaries, a row each."""
    if not canaries:
        return "[dim]no canaries; `infermesh canary start MODEL DEPLOYMENT` starts one[/]"
    shown = table("started", "version", "before", "status", "share", "why", right=["share"])
    for one in canaries:
        shown.add_row(
            when(one.created_at),
            escape(one.version),
            escape(one.baseline_version),
            state(one.status),
            f"{one.percent} %",
            escape(one.status_reason),
        )
    return shown


def canary_plan_shown(
    plan: router_service_pb2.TrafficPlan,
    stages: Sequence[traffic_rule_pb2.CanaryStage],
    criteria: traffic_rule_pb2.SuccessCriteria | None,
) -> RenderableType:
    """What a canary would do: its stages in time, its limits, and the change that begins it."""
    shown = table("stage", "share", "for at least", "from", right=["stage", "share"])
    begin_s = 0.0
    for place, stage in enumerate(stages or STAGES_DEFAULT):
        lasts_s = stage.duration_minutes * 60
        shown.add_row(str(place + 1), f"{stage.percent} %", length(lasts_s) if lasts_s else "", f"+{length(begin_s)}")
        begin_s += lasts_s
    limits = ", ".join(_limits(criteria)) or "error_rate_max 1 %"
    return Group(shown, "", f"limits: {escape(limits)}", "", plan_shown(plan))


def _limits(criteria: traffic_rule_pb2.SuccessCriteria | None) -> list[str]:
    if criteria is None:
        return []
    said = [
        f"{field.name} {figure(field.name, float(value))}"
        for field, value in criteria.ListFields()
        if field.name != "metrics"
    ]
    for metric in criteria.metrics:
        said += [
            f"{metric.name}.{field.name} {figure(f'.{field.name}', value)}"
            for field, value in metric.ListFields()
            if field.name != "name"
        ]
    return said


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


def _by(stamp: Timestamp, who: str) -> str:
    return escape(f"{when(stamp)} by {who}" if who else when(stamp))
