"""An A/B test, drawn: what each version did, how they differ, and what can be concluded."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from infermesh.client.ab_tests import ENDED
from infermesh.client.cli.figures import count, figure, unit
from infermesh.client.cli.intervals import ZERO, axis, bound, drawn, ticks
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.quantities import length
from infermesh.client.cli.routes import split_text
from infermesh.router.v1 import ab_test_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_DRAWN_WIDTH = 52
_LABEL_WIDTH = 12
_TESTS = {"welch_t": "Welch's t", "two_proportion_z": "two-proportion z"}


def ab_test_shown(test: ab_test_pb2.AbTest, now: datetime) -> RenderableType:
    """A test as it stands at `now`, with its results and their intervals."""
    results = test.results
    parts: list[RenderableType] = [
        f"[bold]{escape(test.model_name)} {escape(test.name)}[/] {state(test.status)}",
        facts(
            (
                ("shares", escape(split_text(dict(test.versions), _by_share(test)))),
                ("by", escape(test.sticky_key_header)),
                ("began", escape(_by(test))),
                ("ends" if test.status not in ENDED else "ended", _end(test, now)),
                ("then", _then(test)),
                (
                    "stops at",
                    f"error rate {figure('error_rate', test.rollback_on_error_rate)}"
                    if test.rollback_on_error_rate
                    else "",
                ),
                ("why", escape(test.status_reason)),
                ("etag", escape(test.etag)),
            )
        ),
    ]
    if results.arms:
        parts += ["", _arms(results)]
    if results.sample_ratio_mismatch:
        parts.append(
            "[red]the versions' shares of requests are not those of the test (p = "
            f"{results.sample_ratio_p_value:.2g}): something loses or moves requests, so nothing can be concluded[/]"
        )
    if results.comparisons:
        parts += ["", *comparisons_drawn(results)]
    if results.conclusion:
        parts += ["", f"{_outcome_words(results)}: {escape(results.conclusion)}"]
    if results.HasField("as_of"):
        parts.append(f"[dim]as of {when(results.as_of)}{_basis(results)}[/]")
    return Group(*parts)


def _by_share(test: ab_test_pb2.AbTest) -> list[str]:
    return sorted(test.versions, key=lambda version: (-test.versions[version], version))


def _by(test: ab_test_pb2.AbTest) -> str:
    return f"{when(test.start_time)} by {test.created_by}" if test.created_by else when(test.start_time)


def _end(test: ab_test_pb2.AbTest, now: datetime) -> str:
    if not test.HasField("end_time"):
        return ""
    left_s = (test.end_time.ToDatetime(UTC) - now).total_seconds()
    left = f", in {length(left_s)}" if test.status not in ENDED and left_s > 0 else ""
    return f"{when(test.end_time)}{left}"


def _then(test: ab_test_pb2.AbTest) -> str:
    if test.status in ENDED:
        return ""
    return "a significant winner gets all traffic" if test.auto_promote else "the shares before it come back"


def _outcome_words(results: ab_test_pb2.AbTestResults) -> str:
    if results.outcome == "waiting":
        return f"so far [bold]{escape(results.winner)}[/] is ahead" if results.winner else "so far"
    return (
        f"{state(results.outcome)} [bold]{escape(results.winner)}[/]".rstrip()
        if results.winner
        else state(results.outcome)
    )


def _basis(results: ab_test_pb2.AbTestResults) -> str:
    if results.basis == "sequential":
        return "; judged by the sequential intervals, which hold however often one looks"
    return "; judged at the planned end, corrected for the number of comparisons" if results.basis else ""


def _arms(results: ab_test_pb2.AbTestResults) -> Table:
    outcomes = sorted({name for arm in results.arms for name in arm.outcomes})
    numbers = ["requests", "errors", "mean ms", "p95 ms", *outcomes]
    shown = table("version", *numbers, right=numbers)
    for arm in results.arms:
        role = " [dim](control)[/]" if arm.version == results.control else ""
        shown.add_row(
            escape(arm.version) + role,
            count(arm.request_count),
            figure("error_rate", arm.error_rate),
            f"{arm.latency_avg_ms:.3g}",
            f"{arm.latency_p95_ms:.3g}",
            *(_outcome(arm, name) for name in outcomes),
        )
    return shown


def _outcome(arm: ab_test_pb2.AbTestArm, name: str) -> str:
    if name not in arm.outcomes:
        return "–"
    return figure(name, arm.outcomes[name])


def comparisons_drawn(results: ab_test_pb2.AbTestResults) -> list[str]:
    """For each comparison the difference from the control with both of its intervals around 0, as rich markup.

    The lines fit in 80 columns and say without colours what they say with them.
    """
    lines: list[str] = []
    for one in results.comparisons:
        if lines:
            lines.append("")
        lines += _comparison(one, results.control)
    return lines


def _comparison(one: ab_test_pb2.AbTestComparison, control: str) -> list[str]:
    metric = one.metric
    title = (
        f"[bold]{escape(metric)}[/] {escape(one.version)} − {escape(control)}: "
        f"{figure(metric, one.version_value)} − {figure(metric, one.control_value)}  {state(one.verdict)}"
    )
    difference = one.version_value - one.control_value
    intervals = {
        "95 %": (bound(one.difference_low), bound(one.difference_high)),
        "sequential": (bound(one.sequential_low), bound(one.sequential_high)),
    }
    known = {name: ends for name, ends in intervals.items() if is_known(*ends)}
    samples = f"{count(one.version_samples)} and {count(one.control_samples)} samples"
    if not known or math.isnan(difference):
        return [title, f"[dim]{samples}; too few for an interval[/]"]
    span = axis([0.0, difference, *(end for ends in known.values() for end in ends)], width=_DRAWN_WIDTH)
    lines = [title]
    for name, (low, high) in known.items():
        line = drawn(span, low=low, value=difference, high=high, marks={0.0: ZERO})
        lines.append(f"{name:<{_LABEL_WIDTH}}{_coloured(line, one.verdict)}")
    labels = {0.0: "0"}
    for end in (low for low, _ in known.values()):
        labels.setdefault(end, figure(metric, end, signed=True))
    for end in (high for _, high in known.values()):
        labels.setdefault(end, figure(metric, end, signed=True))
    lines.append(f"{unit(metric):<{_LABEL_WIDTH}}[dim]{ticks(span, labels)}[/]")
    # What corrects makes larger: a zero beside something is a correction that was not made.
    corrected = f", corrected {_p(one.p_value_adjusted)}" if one.p_value_adjusted >= one.p_value else ""
    lines.append(
        f"[dim]{_TESTS.get(one.test, escape(one.test))}, p {_p(one.p_value)}{corrected}, "
        f"effect {one.effect_size:.2g}; {samples}[/]"
    )
    return lines


def _p(value: float) -> str:
    """A probability; one too small for a float is not nothing."""
    return f"= {value:.2g}" if value > 0 else "< 1e-300"


def is_known(low: float, high: float) -> bool:
    """Whether there is an interval: one that says nothing has both ends at 0 or at infinity, or is not a number."""
    if math.isnan(low) or math.isnan(high) or (low == 0 and high == 0):
        return False
    return not (math.isinf(bound(low)) and math.isinf(bound(high)))


def _coloured(line: str, verdict: str) -> str:
    colour = {"better": "green", "worse": "red"}.get(verdict)
    return f"[{colour}]{line}[/]" if colour else line


def ab_tests_listed(tests: Sequence[ab_test_pb2.AbTest]) -> RenderableType:
    """Tests, a row each."""
    if not tests:
        return "[dim]no A/B tests; `infermesh ab-test create MODEL NAME v1.0.0=50 v1.1.0=50` starts one[/]"
    shown = table("test", "status", "shares", "metrics", "began", "ends", "why")
    for one in tests:
        shown.add_row(
            escape(one.name),
            state(one.status),
            escape(split_text(dict(one.versions), _by_share(one))),
            escape(", ".join(one.metrics)),
            when(one.start_time),
            when(one.end_time),
            escape(one.status_reason),
        )
    return shown
