"""`infermesh drift`: whether a version's traffic still looks as its training data did."""

from typing import Annotated

import typer
from infermesh.client.cli.drift_views import baseline_shown, baselines_listed, report_shown, reports_listed
from infermesh.client.cli.quantities import now, parse_length, parse_moment
from infermesh.client.cli.session import LimitOption, ModelArgument, Session, VersionArgument, VersionOption, command
from infermesh.client.polling import followed
from infermesh.monitor.v1 import drift_pb2
from rich.markup import escape

_EXAMPLE = "30m, 6h or 7d"
_PERIOD_S = 0.5

LastOption = Annotated[str, typer.Option("--last", metavar="TIME", help="How far back: 30m, 6h, 7d.")]
BaselineArgument = Annotated[str, typer.Argument(metavar="BASELINE", help="The baseline's id.", show_default=False)]
ReportArgument = Annotated[str, typer.Argument(metavar="REPORT", help="The report's id.", show_default=False)]
FeaturesOption = Annotated[int, typer.Option("--features", min=1, help="Show so many features, the worst first.")]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(
        name="drift", help="See whether traffic still looks as the training data did.", no_args_is_help=True
    )
    _add_reports(group)
    baseline = typer.Typer(name="baseline", help="What traffic is compared with.", no_args_is_help=True)
    _add_baselines(baseline)
    group.add_typer(baseline)
    app.add_typer(group)


def _add_reports(group: typer.Typer) -> None:
    @command(group, "report", epilog="Example: infermesh drift report digits --severity moderate")
    def report(
        session: Session,
        model: ModelArgument,
        *,
        version: VersionOption = "",
        severity: Annotated[str, typer.Option(metavar="LEVEL", help="At least so bad: moderate or high.")] = "",
        last: LastOption = "1d",
        limit: LimitOption = 50,
    ) -> None:
        """List the drift reports of a model, newest first: one an hour for each version with a baseline."""
        start = now() - parse_length(last, "--last", example=_EXAMPLE)
        found = list(
            session.client.drift.reports(model, version=version, min_severity=severity, start=start, limit=limit)
        )
        session.output.result({"drift_reports": found}, lambda: reports_listed(found))

    @command(group, "show")
    def show(session: Session, model: ModelArgument, report: ReportArgument, features: FeaturesOption = 20) -> None:
        """Show a report: every feature, its two distributions, what outcomes say by now."""
        found = session.client.drift.get(model, report)
        session.output.result(found, lambda: report_shown(found, features_max=features))

    @command(group, "compare", epilog="Example: infermesh drift compare digits v1.0.0 --last 30m")
    def compare(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        *,
        last: LastOption = "1h",
        features: FeaturesOption = 20,
    ) -> None:
        """Compare the newest traffic with the baseline now instead of waiting for the hour."""
        end = now()
        start = end - parse_length(last, "--last", example=_EXAMPLE)
        found = session.client.drift.compare(model, version, start=start, end=end)
        session.output.result(found, lambda: report_shown(found, features_max=features))


def _add_baselines(group: typer.Typer) -> None:
    @command(
        group,
        "create",
        epilog="Example: infermesh drift baseline create digits v1.0.0 --sample s3://data/train.parquet",
    )
    def create(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        *,
        sample: Annotated[
            str, typer.Option(metavar="URI", help="A sample of the training data: Parquet, CSV or JSON Lines.")
        ] = "",
        last: Annotated[str, typer.Option(metavar="TIME", help="Or the traffic of the last 30m, 6h, 7d.")] = "",
        start: Annotated[str, typer.Option("--from", metavar="MOMENT", help="Or traffic from here …")] = "",
        end: Annotated[str, typer.Option("--to", metavar="MOMENT", help="… to here, in RFC 3339.")] = "",
        wait: Annotated[
            float, typer.Option(metavar="SECONDS", min=0.001, help="Wait so long until it is read.")
        ] = 60.0,
    ) -> None:
        """Set what a version's traffic is compared with, in place of the baseline before."""
        if sum(map(bool, (sample, last, start or end))) != 1:
            raise typer.BadParameter("say one of --sample, --last, or --from with --to")
        create_baseline = session.client.drift.create_baseline
        if sample:
            made = create_baseline(model, version, sample_uri=sample)
        elif last:
            moment = now()
            begin = moment - parse_length(last, "--last", example=_EXAMPLE)
            made = create_baseline(model, version, start=begin, end=moment)
        else:
            begin, moment = parse_moment(start, "--from"), parse_moment(end, "--to")
            made = create_baseline(model, version, start=begin, end=moment)
        made = _read(session, made, wait)
        session.output.result(made, lambda: baseline_shown(made))
        if made.status == "failed":
            raise typer.Exit(1)

    @command(group, "list")
    def list_(session: Session, model: ModelArgument, *, version: VersionOption = "", limit: LimitOption = 50) -> None:
        """List the baselines of a model, newest first."""
        found = list(session.client.drift.baselines(model, version=version, limit=limit))
        session.output.result({"baselines": found}, lambda: baselines_listed(found))

    @command(group, "delete")
    def delete(session: Session, model: ModelArgument, baseline: BaselineArgument) -> None:
        """Forget a baseline: without an active one drift is no longer judged."""
        session.client.drift.delete_baseline(model, baseline)
        session.output.result({"baseline_id": baseline}, lambda: f"forgot {escape(baseline)}")


def _read(session: Session, made: drift_pb2.Baseline, wait_s: float) -> drift_pb2.Baseline:
    """The baseline once it is read."""
    drift = session.client.drift

    def look(left_s: float) -> drift_pb2.Baseline:
        return drift.get_baseline(made.model_name, made.baseline_id, timeout_s=min(left_s, session.timeout_s))

    *_, read = followed(
        look,
        ended=lambda one: one.status != "pending",
        what=f"baseline {made.baseline_id}",
        timeout_s=wait_s,
        period_s=_PERIOD_S,
    )
    return read
