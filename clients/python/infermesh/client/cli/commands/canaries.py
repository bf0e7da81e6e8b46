"""`infermesh canary`: a version that takes over in stages, and is taken back where it breaks a limit."""

from collections.abc import Iterator
from typing import Annotated

import typer
from infermesh.client.canaries import WATCH_TIMEOUT_S
from infermesh.client.cli.canary_views import canaries_listed, canary_plan_shown, canary_shown
from infermesh.client.cli.deployment_names import deployment_name
from infermesh.client.cli.failures import ExitCode
from infermesh.client.cli.live import watched
from infermesh.client.cli.quantities import now, parse_length
from infermesh.client.cli.rollout_options import criteria, parse_stages
from infermesh.client.cli.session import (
    DeploymentArgument,
    EtagOption,
    LimitOption,
    ModelArgument,
    ReasonOption,
    Session,
    command,
)
from infermesh.router.v1 import canary_pb2

_LIMITS = "Limits"


def _share(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, metavar="SHARE", help=text, rich_help_panel=_LIMITS)
    return option


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="canary", help="Let a version take over in stages, judged at each.", no_args_is_help=True)
    _add_start(group)
    _add_looks(group)
    _add_steps(group)
    app.add_typer(group)


def _add_start(group: typer.Typer) -> None:
    @command(
        group,
        "start",
        epilog="Example: infermesh canary start digits v1-1-0 --stage 10%/30m --stage 50%/1h --error-rate-max 1% "
        "--latency-p95-max-ms 120",
    )
    def start(
        session: Session,
        model: ModelArgument,
        deployment: DeploymentArgument,
        *,
        stage: Annotated[
            list[str] | None,
            typer.Option(
                metavar="PERCENT/TIME",
                help="A stage and how long it lasts at least, as 10%/30m. Repeatable; 100% comes last. Default: "
                "1%/10m, 10%/30m, 50%/1h, 100%.",
            ),
        ] = None,
        hold: Annotated[
            str,
            typer.Option(
                metavar="TIME",
                help="How long a stage without enough data is held before it is rolled back. Default: 1d.",
            ),
        ] = "",
        requests_min: Annotated[
            int | None,
            typer.Option(metavar="COUNT", min=1, help="Requests of a stage before it may pass. Default: 100."),
        ] = None,
        error_rate_max: Annotated[str, _share("--error-rate-max", "Errors. Default: 1%, if no limit is given.")] = "",
        latency_p95_max_ms: Annotated[
            float | None, typer.Option(metavar="MS", min=0, help="95th percentile.", rich_help_panel=_LIMITS)
        ] = None,
        latency_p99_max_ms: Annotated[
            float | None, typer.Option(metavar="MS", min=0, help="99th percentile.", rich_help_panel=_LIMITS)
        ] = None,
        accuracy_min: Annotated[str, _share("--accuracy-min", "Predictions that outcomes confirm.")] = "",
        error_rate_increase_max: Annotated[
            str, _share("--error-rate-increase-max", "Errors above those of the version before.")
        ] = "",
        latency_p95_ratio_max: Annotated[
            float | None,
            typer.Option(
                metavar="TIMES",
                min=0,
                help="95th percentile over that of the version before, as 1.2.",
                rich_help_panel=_LIMITS,
            ),
        ] = None,
        accuracy_decrease_max: Annotated[
            str, _share("--accuracy-decrease-max", "Accuracy below that of the version before.")
        ] = "",
        prediction_shift_max: Annotated[
            str, _share("--prediction-shift-max", "How far any class's share may be from that of the version before.")
        ] = "",
        shadow_disagreement_max: Annotated[
            str, _share("--shadow-disagreement-max", "Shadow copies that were answered otherwise.")
        ] = "",
        metric: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME:LIMIT=VALUE",
                help="A metric that outcomes report, as ctr:min=0.1 or ctr:decrease_max=5%. Repeatable.",
                rich_help_panel=_LIMITS,
            ),
        ] = None,
        etag: EtagOption = "",
        reason: ReasonOption = "",
        plan: Annotated[
            bool, typer.Option("--plan", "--dry-run", help="Say what would happen, and change nothing.")
        ] = False,
    ) -> None:
        """Start a canary of a deployed version: it gets traffic in stages, as long as it keeps within its limits.

        A limit that is broken gives all traffic back at once. Judged is by what callers got; a stage needs its time and
        enough requests.
        """
        stages = parse_stages(stage or ())
        shares = {
            "error_rate_max": error_rate_max,
            "accuracy_min": accuracy_min,
            "error_rate_increase_max": error_rate_increase_max,
            "accuracy_decrease_max": accuracy_decrease_max,
            "prediction_shift_max": prediction_shift_max,
            "shadow_disagreement_max": shadow_disagreement_max,
        }
        limits = criteria(
            shares=shares,
            latency_p95_max_ms=latency_p95_max_ms,
            latency_p99_max_ms=latency_p99_max_ms,
            latency_p95_ratio_max=latency_p95_ratio_max,
            requests_min=requests_min,
            metrics=metric or (),
        )
        hold_minutes = parse_length(hold, "--hold").total_seconds() / 60 if hold else 0.0
        name = deployment_name(session, model, deployment)
        canaries = session.client.canaries
        if plan:
            planned = canaries.plan(model, name, stages=stages, criteria=limits, hold_minutes_max=hold_minutes)
            session.output.result(planned, lambda: canary_plan_shown(planned, stages, limits))
            return
        started = canaries.start(
            model, name, stages=stages, criteria=limits, hold_minutes_max=hold_minutes, etag=etag, reason=reason
        )
        session.output.result(started, lambda: canary_shown(started, now()))
        session.output.note(f"[dim]infermesh canary status {model} --watch follows it.[/]")


def _add_looks(group: typer.Typer) -> None:
    @command(group, "status", epilog="Example: infermesh canary status digits --watch")
    def status(
        session: Session,
        model: ModelArgument,
        *,
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it has ended.")] = False,
        for_s: Annotated[
            float, typer.Option("--for", metavar="SECONDS", min=0.001, help="Stop watching after so long.")
        ] = WATCH_TIMEOUT_S,
    ) -> None:
        """Show the canary that runs, or the last one: its stage, the time left, and how it stands against each limit.

        With --watch and --json a line for each change. The exit code of watching is 0 where it was promoted, else 5.
        """
        if not watch:
            found = session.client.canaries.get(model)
            session.output.result(found, lambda: canary_shown(found, now()))
            return
        last = watched(session, _changes(session, model, for_s), canary_shown)
        if last.status != "promoted":
            raise typer.Exit(ExitCode.CONFLICT)

    @command(group, "list")
    def list_(session: Session, model: ModelArgument, limit: LimitOption = 20) -> None:
        """List the canaries of a model, newest first."""
        found = list(session.client.canaries.list(model, limit=limit))
        session.output.result({"canaries": found}, lambda: canaries_listed(found))


def _changes(session: Session, model: str, timeout_s: float) -> Iterator[canary_pb2.Canary]:
    return session.client.canaries.watch(model, timeout_s=timeout_s)


def _add_steps(group: typer.Typer) -> None:
    @command(group, "pause")
    def pause(session: Session, model: ModelArgument, reason: ReasonOption = "", etag: EtagOption = "") -> None:
        """Keep the canary at its stage. Limits are still watched."""
        _print(session, session.client.canaries.pause(model, reason=reason, etag=etag))

    @command(group, "resume")
    def resume(session: Session, model: ModelArgument, reason: ReasonOption = "", etag: EtagOption = "") -> None:
        """Let a paused canary go on. Its stage begins anew."""
        _print(session, session.client.canaries.resume(model, reason=reason, etag=etag))

    @command(group, "promote")
    def promote(session: Session, model: ModelArgument, reason: ReasonOption = "", etag: EtagOption = "") -> None:
        """Give the canary all traffic now, without the stages that are left."""
        _print(session, session.client.canaries.promote(model, reason=reason, etag=etag))

    @command(group, "abort")
    def abort(session: Session, model: ModelArgument, reason: ReasonOption = "", etag: EtagOption = "") -> None:
        """End the canary: the version that it was to replace gets its traffic back at once."""
        _print(session, session.client.canaries.abort(model, reason=reason, etag=etag))


def _print(session: Session, canary: canary_pb2.Canary) -> None:
    session.output.result(canary, lambda: canary_shown(canary, now()))
