"""`infermesh channels`: where alerts are sent. For operators of the mesh."""

from collections.abc import Sequence
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_channel
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.session import LimitOption, Session, command
from infermesh.monitor.v1 import alert_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

ChannelArgument = Annotated[
    str,
    typer.Argument(metavar="CHANNEL", help="The channel's name.", show_default=False, autocompletion=complete_channel),
]
SLACK_VARIABLE = "INFERMESH_SLACK_WEBHOOK_URL"
PAGER_DUTY_VARIABLE = "INFERMESH_PAGER_DUTY_ROUTING_KEY"
SECRET_VARIABLE = "INFERMESH_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="channels", help="Say where alerts are sent, and try it.", no_args_is_help=True)

    @command(group, "list")
    def list_(session: Session, *, limit: LimitOption = 200) -> None:
        """List the notification channels, by name."""
        found = list(session.client.channels.list(limit=limit))
        session.output.result({"notification_channels": found}, lambda: _listed(found))

    @command(group, "show")
    def show(session: Session, channel: ChannelArgument) -> None:
        """Show a channel. Secrets are never shown."""
        found = session.client.channels.get(channel)
        session.output.result(found, lambda: _shown(found))

    @command(group, "create", epilog="Example: infermesh channels create oncall --email ann@example.com")
    def create(
        session: Session,
        name: Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.", show_default=False)],
        *,
        slack: Annotated[
            str, typer.Option(envvar=SLACK_VARIABLE, metavar="URL", help="Slack's incoming webhook; a secret.")
        ] = "",
        pager_duty: Annotated[
            str, typer.Option(envvar=PAGER_DUTY_VARIABLE, metavar="KEY", help="An integration's routing key; a secret.")
        ] = "",
        webhook: Annotated[str, typer.Option(metavar="URL", help="Any HTTP receiver.")] = "",
        secret: Annotated[
            str, typer.Option(envvar=SECRET_VARIABLE, metavar="TEXT", help="With --webhook: what signs the body.")
        ] = "",
        email: Annotated[
            list[str] | None, typer.Option(metavar="ADDRESS", help="A receiver of e-mail. Repeatable.")
        ] = None,
        severity: Annotated[
            str, typer.Option(metavar="LEVEL", help="Only alerts at least so bad: info, warning or critical.")
        ] = "",
    ) -> None:
        """Make a channel, of one target. Secrets are best given by their variables, which no history keeps."""
        channel = alert_pb2.NotificationChannel(name=name, min_severity=severity)
        if sum(map(bool, (slack, pager_duty, webhook, email))) != 1:
            raise typer.BadParameter(
                "say one target: --slack, --pager-duty, --webhook or --email", param_hint="--webhook"
            )
        if slack:
            channel.slack.webhook_url = slack
        elif pager_duty:
            channel.pager_duty.routing_key = pager_duty
        elif webhook:
            channel.webhook.CopyFrom(alert_pb2.WebhookTarget(url=webhook, signing_secret=secret))
        else:
            channel.email.addresses.extend(email or ())
        made = session.client.channels.create(channel)
        session.output.result(made, lambda: _shown(made))

    @command(group, "test")
    def test(session: Session, channel: ChannelArgument) -> None:
        """Send a test alert over a channel, and say how that went."""
        found = session.client.channels.test(channel)
        session.output.result(found, lambda: _state_words(found))
        if found.status != "sent":
            raise typer.Exit(1)

    @command(group, "delete")
    def delete(session: Session, channel: ChannelArgument) -> None:
        """Remove a channel that no rule names."""
        session.client.channels.delete(channel)
        session.output.result({"name": channel}, lambda: f"{escape(channel)} is removed")

    app.add_typer(group)


def _target(channel: alert_pb2.NotificationChannel) -> str:
    kind = channel.WhichOneof("target")
    if kind == "slack":
        return f"Slack at {channel.slack.webhook_url}"
    if kind == "pager_duty":
        return "PagerDuty"
    if kind == "webhook":
        return channel.webhook.url
    return ", ".join(channel.email.addresses)


def _state_words(told: alert_pb2.NotificationState) -> str:
    why = f": {escape(told.error_message)}" if told.error_message else ""
    return f"{escape(told.channel)} {state(told.status)}{why}"


def _listed(channels: Sequence[alert_pb2.NotificationChannel]) -> RenderableType:
    if not channels:
        return "[dim]no notification channels[/]"
    made = table("channel", "target", "from", least={"target": 20})
    for one in channels:
        made.add_row(escape(one.name), escape(_target(one)), state(one.min_severity))
    return made


def _shown(channel: alert_pb2.NotificationChannel) -> RenderableType:
    return Group(
        f"[bold]{escape(channel.name)}[/]",
        facts(
            (
                ("target", escape(_target(channel))),
                ("from", state(channel.min_severity)),
                ("made", when(channel.created_at)),
                ("changed", when(channel.updated_at)),
            )
        ),
    )
