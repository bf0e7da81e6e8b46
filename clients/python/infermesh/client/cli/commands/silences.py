"""`infermesh silences`: alerts that are not sent for a while."""

from collections.abc import Sequence
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_model, complete_rule, complete_silence
from infermesh.client.cli.output import table, when
from infermesh.client.cli.quantities import now, parse_length
from infermesh.client.cli.session import LimitOption, Session, command
from infermesh.monitor.v1 import alert_pb2
from rich.console import RenderableType
from rich.markup import escape

SilenceArgument = Annotated[
    str,
    typer.Argument(metavar="SILENCE", help="The silence's id.", show_default=False, autocompletion=complete_silence),
]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="silences", help="Keep alerts from being sent for a while.", no_args_is_help=True)

    @command(group, "list")
    def list_(session: Session, *, limit: LimitOption = 200) -> None:
        """List the silences that are not over, the one that ends first at the head."""
        found = list(session.client.silences.list(limit=limit))
        session.output.result({"silences": found}, lambda: _listed(found))

    @command(group, "create", epilog="Example: infermesh silences create 2h --model digits --reason 'load test'")
    def create(
        session: Session,
        length: Annotated[
            str, typer.Argument(metavar="TIME", help="How long, as 30m or 2h; at most 30d.", show_default=False)
        ],
        *,
        rule: Annotated[
            str, typer.Option(metavar="RULE", help="Only alerts of this rule.", autocompletion=complete_rule)
        ] = "",
        model: Annotated[
            str, typer.Option(metavar="MODEL", help="Only alerts of this model.", autocompletion=complete_model)
        ] = "",
        reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the others.")] = "",
    ) -> None:
        """Keep alerts of a rule or a model from being sent; they are still shown, and sent once it is over."""
        silence = alert_pb2.Silence(rule_name=rule, model_name=model, reason=reason)
        silence.end_time.FromDatetime(now() + parse_length(length, "TIME"))
        made = session.client.silences.create(silence)
        session.output.result(made, lambda: _listed([made]))

    @command(group, "end")
    def end(session: Session, silence: SilenceArgument) -> None:
        """End a silence; what it covered and still lasts is sent at once."""
        session.client.silences.delete(silence)
        session.output.result({"silence_id": silence}, lambda: f"{escape(silence)} is over")

    app.add_typer(group)


def _listed(silences: Sequence[alert_pb2.Silence]) -> RenderableType:
    if not silences:
        return "[dim]no silences[/]"
    made = table("silence", "of", "until", "by", "reason", whole=("until",))
    for one in silences:
        covered = " of ".join(part for part in (one.rule_name, one.model_name) if part)
        made.add_row(
            escape(one.silence_id),
            escape(covered),
            when(one.end_time),
            escape(one.created_by),
            escape(one.reason),
        )
    return made
