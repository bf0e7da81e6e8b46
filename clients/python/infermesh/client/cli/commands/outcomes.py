"""`infermesh outcomes`: what became of predictions."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson
from infermesh.client.cli.figures import count
from infermesh.client.cli.outcome_files import OPTION, parse_truth, read_outcomes
from infermesh.client.cli.output import table, when
from infermesh.client.cli.quantities import parse_moment, parse_number
from infermesh.client.cli.session import LimitOption, Session, command
from infermesh.monitor.v1 import monitor_service_pb2, outcome_pb2
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

RequestArgument = Annotated[
    str, typer.Argument(metavar="REQUEST_ID", help="The id that the prediction's answer stated.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="outcomes", help="Say what became of predictions.", no_args_is_help=True)
    _add_report(group)

    @command(group, "list")
    def list_(session: Session, request_id: RequestArgument, limit: LimitOption = 1000) -> None:
        """List what was reported for a request, in the order of its instances."""
        found = list(session.client.outcomes.list(request_id, limit=limit))
        session.output.result({"outcomes": found}, lambda: _listed(found))

    app.add_typer(group)


def _add_report(group: typer.Typer) -> None:
    @command(
        group,
        "report",
        epilog="Examples: infermesh outcomes report req_abc123 --truth 7 --metric ctr=1 · "
        "infermesh outcomes report --file outcomes.csv",
    )
    def report(
        session: Session,
        request_id: Annotated[
            str | None,
            typer.Argument(
                metavar="[REQUEST_ID]", help="The id that the prediction's answer stated.", show_default=False
            ),
        ] = None,
        *,
        truth: Annotated[
            str, typer.Option("--truth", metavar="VALUE", help="What was true: the class's name, or the number.")
        ] = "",
        metric: Annotated[
            list[str] | None, typer.Option("--metric", metavar="NAME=NUMBER", help="As ctr=1. Repeatable.")
        ] = None,
        instance: Annotated[
            int, typer.Option("--instance", metavar="PLACE", min=0, help="Which row of the request, from 0.")
        ] = 0,
        observed: Annotated[
            str, typer.Option("--observed", metavar="TIME", help="When it became true, in RFC 3339. Default: now.")
        ] = "",
        file: Annotated[
            str,
            typer.Option(
                OPTION,
                "-f",
                metavar="PATH",
                help="Many at once: JSON Lines, or CSV with the columns request_id, truth and one for each metric; - "
                "is standard input.",
            ),
        ] = "",
    ) -> None:
        """Report what became of a prediction, or of many. Reported again it replaces what was reported before.

        Accuracy and business metrics of versions come from this, and canaries and A/B tests may be judged by them.
        """
        if file:
            if request_id or truth or metric or observed or instance:
                raise typer.BadParameter("it says everything by itself; give nothing beside it", param_hint=OPTION)
            _report_file(session, file)
            return
        if not request_id:
            raise typer.BadParameter("say whose outcome it is, or give a --file", param_hint="REQUEST_ID")
        metrics = dict(_metric(text) for text in metric or ())
        if not truth and not metrics:
            raise typer.BadParameter("say what was true with --truth, or a metric with --metric", param_hint="--truth")
        taken = session.client.outcomes.report(
            request_id,
            truth=parse_truth(truth) if truth else None,
            metrics=metrics,
            instance=instance,
            observed=parse_moment(observed, "--observed") if observed else None,
        )
        session.output.result(taken, lambda: _taken(taken))


def _report_file(session: Session, path: str) -> None:
    drawn = session.output.err.is_terminal and not session.output.as_json
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} outcomes reported"))
    with Progress(*columns, console=session.output.err, transient=True, disable=not drawn) as progress:
        task = progress.add_task("", total=None)
        reported = 0

        def told(number: int) -> None:
            nonlocal reported
            reported = number
            progress.update(task, completed=number)

        try:
            total = session.client.outcomes.report_many(read_outcomes(path), progress=told)
        except typer.BadParameter as fault:
            before = f"; {reported:,} before it were reported, all of them may be again" if reported else ""
            raise typer.BadParameter(f"{fault.message}{before}", param_hint=OPTION) from None
    session.output.result(total, lambda: _reported(total))


def _metric(text: str) -> tuple[str, float]:
    name, separator, number = text.partition("=")
    if not separator or not name.strip():
        raise typer.BadParameter(f"{text!r} is no metric; say NAME=NUMBER, for instance ctr=1", param_hint="--metric")
    return name.strip(), parse_number(number, "--metric", example="ctr=1")


def _taken(outcome: outcome_pb2.Outcome) -> str:
    of = f"{outcome.model_name} {outcome.version}" if outcome.model_name else "a request that is not logged yet"
    return f"taken: {escape(_said(outcome))} for {escape(outcome.request_id)}, [dim]{escape(of)}[/]"


def _reported(total: monitor_service_pb2.ReportOutcomesResponse) -> str:
    waiting = (
        f", {total.unmatched_count:,} of them for requests that are not logged yet" if total.unmatched_count else ""
    )
    word = "outcome" if total.accepted_count == 1 else "outcomes"
    return f"{count(total.accepted_count)} {word} reported{waiting}"


def _said(outcome: outcome_pb2.Outcome) -> str:
    words = [f"truth {_truth(outcome)}"] if outcome.HasField("ground_truth") else []
    return ", ".join([*words, *(f"{name} {value:g}" for name, value in sorted(outcome.metrics.items()))])


def _truth(outcome: outcome_pb2.Outcome) -> str:
    if not outcome.HasField("ground_truth"):
        return ""
    value: object = json.loads(MessageToJson(outcome.ground_truth))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(outcomes: Sequence[outcome_pb2.Outcome]) -> RenderableType:
    if not outcomes:
        return "[dim]nothing was reported for that request[/]"
    metrics = sorted({name for one in outcomes for name in one.metrics})
    shown = table("row", "truth", *metrics, "when", "by", right=["row", *metrics])
    for one in outcomes:
        shown.add_row(
            str(one.instance_index),
            escape(_truth(one)),
            *(f"{one.metrics[name]:g}" if name in one.metrics else "" for name in metrics),
            when(one.observed_time),
            escape(f"{one.model_name} {one.version}".strip() or "not logged yet"),
        )
    return shown
