"""`infermesh keys`: keys for programs, and for people whose own token names no team."""

from typing import Annotated

import typer
from infermesh.client.cli.commands.teams import TeamArgument
from infermesh.client.cli.completion import complete_key
from infermesh.client.cli.output import facts, when
from infermesh.client.cli.quantities import now, parse_length
from infermesh.client.cli.session import LimitOption, ReasonOption, Session, command
from infermesh.client.cli.team_views import key_state, keys_listed, limits_of
from infermesh.client.credentials import KEY_VARIABLE
from infermesh.registry.v1 import team_pb2
from infermesh.registry.v1 import team_service_pb2 as pb
from rich.console import Group, RenderableType
from rich.markup import escape

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's id.", show_default=False, autocompletion=complete_key)
]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="Only this: predict, models.read, models.write, deployments.write, traffic.write, batch or admin. "
        "Repeatable. Default: all that the role allows.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="keys", help="Make, see and end keys.", no_args_is_help=True)
    _add_making(group)

    @command(group, "list")
    def list_(session: Session, team: TeamArgument, *, limit: LimitOption = 200) -> None:
        """List the keys of a team, newest first, revoked ones included."""
        found = list(session.client.keys.list(team, limit=limit))
        session.output.result({"api_keys": found}, lambda: keys_listed(found, now()))

    @command(group, "show")
    def show(session: Session, team: TeamArgument, key: KeyArgument) -> None:
        """Show a key: what it may do, when it was used last. Its secret cannot be shown again."""
        found = session.client.keys.get(team, key)
        session.output.result(found, lambda: _shown(found))

    @command(group, "revoke", epilog="Example: infermesh keys revoke risk KEY --reason 'it was in a log'")
    def revoke(session: Session, team: TeamArgument, key: KeyArgument, *, reason: ReasonOption = "") -> None:
        """End a key. Within a second no gateway takes it any more."""
        found = session.client.keys.revoke(team, key, reason=reason)
        session.output.result(found, lambda: _shown(found))

    app.add_typer(group)


def _add_making(group: typer.Typer) -> None:
    @command(group, "create", epilog="Example: infermesh keys create risk scoring --scope predict --model fraud")
    def create(
        session: Session,
        team: TeamArgument,
        name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.", show_default=False)],
        *,
        role: Annotated[str, typer.Option(metavar="ROLE", help="viewer, deployer or admin.")] = "viewer",
        scope: ScopeOption = None,
        model: Annotated[
            list[str] | None, typer.Option(metavar="MODEL", help="Only this model. Repeatable. Default: all.")
        ] = None,
        expires_in: Annotated[
            str, typer.Option(metavar="TIME", help="How long it is good, as 12h or 90d. Default: for ever.")
        ] = "",
        requests_per_sec: Annotated[
            float, typer.Option(metavar="RATE", min=0, help="A limit of its own beside the team's.")
        ] = 0,
        burst: Annotated[float, typer.Option(metavar="NUMBER", min=0, help="How many may pass at once.")] = 0,
    ) -> None:
        """Make a key. It is shown once and kept nowhere: a lost one is revoked and replaced."""
        limited = requests_per_sec or burst
        made = session.client.keys.create(
            team,
            name,
            role=role,
            scopes=scope or (),
            models=model or (),
            rate_limit=team_pb2.RateLimit(requests_per_sec=requests_per_sec, burst=burst) if limited else None,
            expires_at=now() + parse_length(expires_in, "--expires-in") if expires_in else None,
        )
        session.output.result(made, lambda: _made(made))

    @command(group, "exchange", epilog="Example: INFERMESH_API_KEY=$(my-login) infermesh keys exchange risk")
    def exchange(session: Session, team: TeamArgument, *, scope: ScopeOption = None) -> None:
        """Make a key of a team for an hour out of your own token (in INFERMESH_API_KEY), with your role there."""
        made = session.client.keys.exchange(team, scopes=scope or ())
        session.output.result(made, lambda: _made(made))


def _made(made: pb.CreateApiKeyResponse) -> RenderableType:
    # On a line of its own and unbroken, to be pasted; it is the only time that it is seen.
    return Group(
        _shown(made.api_key),
        "\n[bold]Keep it now; it is not shown again:[/]",
        f"export {KEY_VARIABLE}={made.secret}",
    )


def _shown(key: team_pb2.ApiKey) -> RenderableType:
    return facts(
        [
            ("key", key.key_id),
            ("name", escape(key.name)),
            ("team", key.team),
            ("role", key.role),
            ("state", key_state(key, now())),
            ("scopes", ", ".join(key.scopes)),
            ("models", ", ".join(key.models)),
            ("rate", limits_of(key.rate_limit) if key.HasField("rate_limit") else ""),
            ("last used", when(key.last_used_at)),
            ("made by", escape(key.created_by)),
            ("made", when(key.created_at)),
        ]
    )
