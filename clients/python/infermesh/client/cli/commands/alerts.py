"""`infermesh alerts`: what is wrong, what probably caused it, and who looks after it."""

from collections.abc import Sequence
from typing import Annotated

import typer
from infermesh.client.alerts import WATCH_TIMEOUT_S
from infermesh.client.cli.completion import complete_alert, complete_model
from infermesh.client.cli.output import facts, state, when
from infermesh.client.cli.session import LimitOption, Session, command
from infermesh.monitor.v1 import alert_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

AlertArgument = Annotated[
    str, typer.Argument(metavar="ALERT", help="The alert's id.", show_default=False, autocompletion=complete_alert)
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="Only of this model.", autocompletion=complete_model)
]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="alerts", help="See what is wrong, and say that you look after it.", no_args_is_help=True)

    @command(group, "list", epilog="Example: infermesh alerts list --status firing")
    def list_(
        session: Session,
        *,
        model: ModelOption = "",
        status: Annotated[str, typer.Option(metavar="STATUS", help="Only firing, acknowledged or resolved ones.")] = "",
        severity: Annotated[
            str, typer.Option(metavar="LEVEL", help="At least so bad: info, warning or critical.")
        ] = "",
        limit: LimitOption = 50,
    ) -> None:
        """List the alerts, newest first."""
        found = list(session.client.alerts.list(model=model, status=status, min_severity=severity, limit=limit))
        session.output.result({"alerts": found}, lambda: _listed(found))

    @command(group, "show")
    def show(session: Session, alert: AlertArgument) -> None:
        """Show an alert: what is wrong, what probably caused it, the command that undoes that."""
        found = session.client.alerts.get(alert)
        session.output.result(found, lambda: _shown(found))

    @command(group, "acknowledge", epilog="Example: infermesh alerts acknowledge ALERT --note 'looking into it'")
    def acknowledge(
        session: Session,
        alert: AlertArgument,
        note: Annotated[str, typer.Option(metavar="TEXT", help="What others should know.")] = "",
    ) -> None:
        """Say that you look after an alert: it is not sent again while it lasts."""
        taken = session.client.alerts.acknowledge(alert, note=note)
        session.output.result(taken, lambda: _shown(taken))

    @command(group, "watch")
    def watch(
        session: Session,
        *,
        model: ModelOption = "",
        for_s: Annotated[
            float, typer.Option("--for", metavar="SECONDS", min=0.001, help="Stop watching after so long.")
        ] = WATCH_TIMEOUT_S,
    ) -> None:
        """Follow alerts as they fire, change and resolve, beginning with those that are firing. A line for each."""
        for one in session.client.alerts.watch(model=model, timeout_s=for_s):
            session.output.line(one, _line(one))

    app.add_typer(group)


def _subject(alert: alert_pb2.Alert) -> str:
    return f"{alert.model_name} {alert.version}".strip() or "the platform"


def _line(alert: alert_pb2.Alert) -> str:
    moment = when(alert.resolved_at) or when(alert.acknowledged_at) or when(alert.fired_at)
    undo = f" [dim]undo: {escape(alert.undo_command)}[/]" if alert.undo_command and alert.status == "firing" else ""
    return (
        f"{moment} {state(alert.status)} {state(alert.severity)} [bold]{escape(_subject(alert))}[/] "
        f"{escape(alert.summary)} [dim]{escape(alert.alert_id)}[/]{undo}"
    )


def _listed(alerts: Sequence[alert_pb2.Alert]) -> RenderableType:
    """Three lines each: ids and sentences are too long to stand in a table side by side."""
    if not alerts:
        return "[dim]no alerts[/]"
    parts: list[str] = []
    for one in alerts:
        parts.append(f"{state(one.status)} {state(one.severity)} [bold]{escape(_subject(one))}[/] {when(one.fired_at)}")
        parts.append(f"  {escape(one.summary)}")
        undo = f"; undo: {one.undo_command}" if one.undo_command and one.status != "resolved" else ""
        parts.append(f"  [dim]{escape(one.alert_id)}{escape(undo)}[/]")
    return Group(*parts)


def _shown(alert: alert_pb2.Alert) -> RenderableType:
    told = "; ".join(
        f"{one.channel} {one.status}" + (f" ({one.error_message})" if one.error_message else "")
        for one in alert.notifications
    )
    who = (
        f"{alert.acknowledged_by or 'someone'}, {when(alert.acknowledged_at)}"
        if alert.acknowledged_by or alert.HasField("acknowledged_at")
        else ""
    )
    return Group(
        f"[bold]{escape(_subject(alert))}[/] {state(alert.status)} {state(alert.severity)}: {escape(alert.summary)}",
        facts(
            (
                ("alert", escape(alert.alert_id)),
                ("rule", escape(alert.rule_name)),
                ("since", when(alert.started_at)),
                ("fired", when(alert.fired_at)),
                ("resolved", when(alert.resolved_at)),
                ("cause", escape(alert.probable_cause)),
                ("undo", escape(alert.undo_command)),
                ("looked after", escape(who)),
                ("note", escape(alert.acknowledgement_note)),
                ("silenced", "yes" if alert.silenced else ""),
                ("told", escape(told)),
            )
        ),
    )
