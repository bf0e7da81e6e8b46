"""`infermesh schedules`: jobs that are made again and again."""

from typing import Annotated

import typer
from infermesh.batch.v1 import batch_job_pb2
from infermesh.client.cli.notify_options import NotifyOption, read_notifications
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.session import LimitOption, ModelArgument, Session, VersionOption, command
from rich.console import Group, RenderableType
from rich.markup import escape

ScheduleArgument = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="The schedule's id, or its name.", show_default=False)
]
CronOption = Annotated[
    str, typer.Option("--cron", metavar="CRON", help="When: minute, hour, day of month, month, day of week.")
]
ZoneOption = Annotated[
    str, typer.Option("--time-zone", metavar="ZONE", help="Of the moments, for instance Europe/Berlin. Default: UTC.")
]
OverlapOption = Annotated[
    str,
    typer.Option("--overlap", metavar="WORD", help="While the run before has not ended: skip, queue or replace."),
]
_ID_PREFIX = "batch_schedule_"


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="schedules", help="Predict files again and again, by the clock.", no_args_is_help=True)
    _add_create(group)
    _add_looks(group)
    _add_changes(group)
    app.add_typer(group)


def _add_create(group: typer.Typer) -> None:
    @command(
        group,
        "create",
        epilog="Example: infermesh schedules create nightly '0 3 * * *' digits /data/{date}.csv /out/{date}.parquet "
        "--time-zone Europe/Berlin",
    )
    def create(  # noqa: PLR0917 - what and when and of what into what, in the order in which it is said
        session: Session,
        name: Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.", show_default=False)],
        cron: Annotated[
            str, typer.Argument(metavar="CRON", help="When, for instance '0 3 * * *'.", show_default=False)
        ],
        model: ModelArgument,
        source: Annotated[str, typer.Argument(metavar="INPUT", help="The rows; may have {date}, {time}, {run} in it.")],
        target: Annotated[str, typer.Argument(metavar="OUTPUT", help="The predictions; with one of these in it.")],
        *,
        version: VersionOption = "",
        key: Annotated[str, typer.Option(metavar="COLUMN", help="The column that identifies a row.")] = "",
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
        batch_size: Annotated[int, typer.Option(min=0, help="Rows in one request; 0: the default.")] = 0,
        time_zone: ZoneOption = "",
        overlap: OverlapOption = "",
        notify: NotifyOption = None,
    ) -> None:
        """Have a job made at each moment of a cron expression.

        {date}, {time} and {run} stand for the moment in its time zone (2026-02-05, 030000) and for the number of the
        run. Without --version each run takes the newest version.
        """
        job = batch_job_pb2.BatchJob(
            model_name=model,
            model_version=version,
            input_uri=source,
            output_uri=target,
            batch_size=batch_size,
            input=batch_job_pb2.InputOptions(key_column=key),
            output=batch_job_pb2.OutputOptions(overwrite=overwrite),
            notifications=read_notifications(notify or ()),
        )
        made = session.client.schedules.create(name, cron, job, time_zone=time_zone, overlap=overlap)
        session.output.result(made, lambda: _shown(made))


def _add_looks(group: typer.Typer) -> None:
    @command(group, "list")
    def list_(session: Session, limit: LimitOption = 50) -> None:
        """List schedules, by name."""
        found = list(session.client.schedules.list(limit=limit))
        session.output.result({"schedules": found}, lambda: _listed(found))

    @command(group, "show")
    def show(session: Session, schedule: ScheduleArgument) -> None:
        """Show a schedule: when it runs next, and how the last run went."""
        found = session.client.schedules.get(_id(session, schedule))
        session.output.result(found, lambda: _shown(found))


def _add_changes(group: typer.Typer) -> None:
    def change(session: Session, schedule: str, **fields: object) -> None:
        wanted = batch_job_pb2.BatchSchedule(schedule_id=_id(session, schedule), **fields)  # type: ignore[arg-type]
        changed = session.client.schedules.update(wanted, sorted(fields))
        session.output.result(changed, lambda: _shown(changed))

    @command(group, "change", epilog="Example: infermesh schedules change nightly --cron '30 4 * * *'")
    def change_(
        session: Session,
        schedule: ScheduleArgument,
        *,
        cron: CronOption = "",
        time_zone: ZoneOption = "",
        overlap: OverlapOption = "",
    ) -> None:
        """Change when a schedule runs, or what overlapping runs do."""
        given = {"cron": cron, "time_zone": time_zone, "overlap": overlap}
        fields = {name: value for name, value in given.items() if value}
        if not fields:
            raise typer.BadParameter("say what to change: --cron, --time-zone or --overlap")
        change(session, schedule, **fields)

    @command(group, "pause")
    def pause(session: Session, schedule: ScheduleArgument) -> None:
        """Make no jobs for now. Moments that pass meanwhile are not made up for."""
        change(session, schedule, paused=True)

    @command(group, "resume")
    def resume(session: Session, schedule: ScheduleArgument) -> None:
        """Make jobs again, from the next moment on."""
        change(session, schedule, paused=False)

    @command(group, "delete")
    def delete(session: Session, schedule: ScheduleArgument) -> None:
        """Remove a schedule. Jobs that it made stay."""
        schedule_id = _id(session, schedule)
        session.client.schedules.delete(schedule_id)
        session.output.result(
            {"schedule_id": schedule_id}, lambda: f"{escape(schedule)} is removed; jobs that it made stay"
        )


def _id(session: Session, schedule: str) -> str:
    """The id of a schedule that is named by it or by its name. What is neither is left to the service to refuse."""
    if schedule.startswith(_ID_PREFIX):
        return schedule
    found = (item for item in session.client.schedules.list() if item.schedule_name == schedule)
    return next((item.schedule_id for item in found), schedule)


def _word(schedule: batch_job_pb2.BatchSchedule) -> str:
    return "paused" if schedule.paused else "active"


def _listed(schedules: list[batch_job_pb2.BatchSchedule]) -> RenderableType:
    if not schedules:
        return "[dim]no schedules; `infermesh schedules create NAME CRON MODEL INPUT OUTPUT` makes one[/]"
    shown = table("name", "status", "cron", "model", "next run", "last job", whole=["status"])
    for one in schedules:
        shown.add_row(
            escape(one.schedule_name),
            state(_word(one)),
            escape(f"{one.cron} {one.time_zone}"),
            escape(f"{one.job.model_name} {one.job.model_version}".strip()),
            when(one.next_run_time),
            "[red]none[/]" if one.last_error_message else escape(one.last_job_id),
        )
    return shown


def _shown(schedule: batch_job_pb2.BatchSchedule) -> RenderableType:
    job = schedule.job
    shown = facts(
        (
            ("schedule", escape(schedule.schedule_id)),
            ("name", escape(schedule.schedule_name)),
            ("status", state(_word(schedule))),
            ("cron", escape(f"{schedule.cron} {schedule.time_zone}")),
            ("overlap", escape(schedule.overlap)),
            ("model", escape(f"{job.model_name} {job.model_version or 'newest'}")),
            ("input", escape(job.input_uri)),
            ("output", escape(job.output_uri)),
            ("next run", when(schedule.next_run_time)),
            ("runs", f"{schedule.run_count:,.0f}" if schedule.run_count else ""),
            ("waiting", f"{schedule.waiting_count}" if schedule.waiting_count else ""),
            ("last run", when(schedule.last_run_time)),
            ("last job", escape(schedule.last_job_id)),
        )
    )
    if not schedule.last_error_message:
        return shown
    return Group(shown, "", f"[red]the last run made no job: {escape(schedule.last_error_message)}[/]")
