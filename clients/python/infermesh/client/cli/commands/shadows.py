"""`infermesh shadow`: how a version that gets copies would have answered."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from infermesh.client.cli.figures import count, figure
from infermesh.client.cli.intervals import Axis, axis, drawn
from infermesh.client.cli.output import when
from infermesh.client.cli.quantities import now, parse_length
from infermesh.client.cli.session import ModelArgument, Session, VersionOption, command
from infermesh.monitor.v1 import shadow_report_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

_RATE = "shadow_disagreement"
_DRAWN_WIDTH = 40
_OUTPUT_SHOWN_MAX = 56


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(
        name="shadow", help="Compare the answers of copies with those that callers got.", no_args_is_help=True
    )

    @command(group, "report", epilog="Example: infermesh shadow report digits --last 2h --examples 3")
    def report(
        session: Session,
        model: ModelArgument,
        version: VersionOption = "",
        last: Annotated[str, typer.Option(metavar="TIME", help="How far back: 30m, 6h, 7d.")] = "1d",
        examples: Annotated[
            int, typer.Option(metavar="COUNT", min=0, max=100, help="So many examples of each pair of versions.")
        ] = 5,
    ) -> None:
        """Show how often shadow copies were answered otherwise, with the interval of that and examples.

        `infermesh traffic set MODEL --shadow VERSION=10%` gives a version copies.
        """
        found = list(
            session.client.shadows.reports(
                model,
                version=version,
                start=now() - parse_length(last, "--last", example="30m, 6h or 7d"),
                # 0 would mean the mesh's own default.
                examples_max=max(1, examples),
            )
        )
        if examples == 0:
            for one in found:
                del one.examples[:]
        session.output.result({"shadow_reports": found}, lambda: reports_shown(model, last, found))

    app.add_typer(group)


def reports_shown(model: str, last: str, reports: Sequence[shadow_report_pb2.ShadowReport]) -> RenderableType:
    """The reports: how many copies differ with the interval of that, what became of others, and examples."""
    if not reports:
        return (
            f"[dim]no copies of requests for {escape(model)} in the last {escape(last)}; "
            f"`infermesh traffic set {escape(model)} --shadow VERSION=10%` gives a version some[/]"
        )
    span = axis([0.0, *(one.disagreement_high for one in reports)], width=_DRAWN_WIDTH, least=0.0, most=1.0)
    parts: list[RenderableType] = []
    for one in reports:
        parts += [*([""] if parts else []), *_report(one, span)]
        for example in one.examples:
            parts += ["", *_example(one, example)]
    return Group(*parts)


def _report(one: shadow_report_pb2.ShadowReport, span: Axis) -> Iterator[str]:
    versions = f"[bold]{escape(one.shadow_version)}[/] against {escape(one.primary_version)}"
    if one.compared_count:
        share = figure(_RATE, one.disagreement_rate)
        yield f"{versions}: {count(one.disagreed_count)} of {count(one.compared_count)} copies differ, {share}"
        line = drawn(span, low=one.disagreement_low, value=one.disagreement_rate, high=one.disagreement_high)
        interval = f"{figure(_RATE, one.disagreement_low)} to {figure(_RATE, one.disagreement_high)}"
        yield f"  {line}  [dim]{interval} at 95 %[/]"
    else:
        yield f"{versions}: no copy was compared"
    if missing := _missing(one):
        yield f"  [yellow]{escape(missing)}[/]"


def _missing(report: shadow_report_pb2.ShadowReport) -> str:
    words = [f"{count(number)} failed as {reason}" for reason, number in sorted(report.failed_by_reason.items())]
    if report.dropped_count:
        words.append(f"{count(report.dropped_count)} were not sent, too many were on their way")
    return "; ".join(words)


def _example(report: shadow_report_pb2.ShadowReport, one: shadow_report_pb2.ShadowReportExample) -> Iterator[str]:
    yield f"  {escape(one.request_id)} [dim]row {one.row}, {when(one.time)}, differs by {one.difference:.3g}[/]"
    yield f"    callers got {escape(report.primary_version)} {escape(_cut(one.primary_output))}"
    yield f"    the copy    {escape(report.shadow_version)} {escape(_cut(one.shadow_output))}"


def _cut(text: str) -> str:
    return text if len(text) <= _OUTPUT_SHOWN_MAX else f"{text[: _OUTPUT_SHOWN_MAX - 1]}…"
