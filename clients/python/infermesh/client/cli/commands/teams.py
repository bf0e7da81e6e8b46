"""`infermesh whoami`, `teams`, `share`: who one is, who owns what, who belongs to whom."""

from collections.abc import Sequence
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_team
from infermesh.client.cli.output import facts, table, when
from infermesh.client.cli.session import EtagOption, LimitOption, ModelArgument, Session, command
from infermesh.client.cli.team_options import (
    BurstOption,
    BytesOption,
    CpuOption,
    DescriptionOption,
    GpuOption,
    JobsOption,
    MemoryOption,
    ModelsOption,
    RateOption,
    SignedOption,
    TeamWish,
    UnsafeOption,
)
from infermesh.client.cli.team_views import limits_of, quota_of, teams_listed
from infermesh.registry.v1 import team_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

TeamArgument = Annotated[
    str, typer.Argument(metavar="TEAM", help="The team's name.", show_default=False, autocompletion=complete_team)
]
UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="The user, as the identity provider names them.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""

    @command(app, "whoami")
    def whoami(session: Session) -> None:
        """Show who you are to the mesh: your team, your role, what your key may do."""
        caller = session.client.teams.caller()
        rows = [
            ("user", caller.user),
            ("team", caller.team),
            ("role", caller.role),
            ("key", caller.key_id),
            ("scopes", ", ".join(caller.scopes)),
        ]
        session.output.result(
            caller,
            lambda: facts(rows) if any(value for _, value in rows) else "[dim]nobody: authentication is off[/]",
        )

    group = typer.Typer(name="teams", help="See and change teams and who belongs to them.", no_args_is_help=True)
    _add_looks(group)
    _add_changes(group)
    _add_members(group)
    app.add_typer(group)
    _add_sharing(app)


def _add_looks(group: typer.Typer) -> None:
    @command(group, "list")
    def list_(session: Session, *, limit: LimitOption = 200) -> None:
        """List the teams that you may see."""
        found = list(session.client.teams.list(limit=limit))
        session.output.result({"teams": found}, lambda: teams_listed(found))

    @command(group, "show")
    def show(session: Session, team: TeamArgument) -> None:
        """Show a team: what it may use, how fast it may call, who belongs to it."""
        found, members = session.client.teams.get(team), list(session.client.teams.members(team))
        session.output.result({"team": found, "members": members}, lambda: _shown(found, members))


def _add_changes(group: typer.Typer) -> None:
    @command(group, "create", epilog="Example: infermesh teams create risk --models 100 --requests-per-sec 500")
    def create(
        session: Session,
        team: Annotated[str, typer.Argument(metavar="TEAM", help="Its name.", show_default=False)],
        *,
        namespace: Annotated[str, typer.Option(metavar="NAME", help="In clusters. Default: the team's name.")] = "",
        description: DescriptionOption = "",
        cpu: CpuOption = "",
        memory: MemoryOption = "",
        gpu: GpuOption = None,
        models: ModelsOption = None,
        batch_jobs: JobsOption = None,
        artifact_bytes: BytesOption = None,
        requests_per_sec: RateOption = None,
        burst: BurstOption = None,
        unsafe_artifacts: UnsafeOption = None,
        signed_only: SignedOption = None,
    ) -> None:
        """Make a team. For platform admins."""
        wish = TeamWish(
            description=description,
            cpu=cpu,
            memory=memory,
            gpu=gpu,
            models=models,
            batch_jobs=batch_jobs,
            artifact_bytes=artifact_bytes,
            requests_per_sec=requests_per_sec,
            burst=burst,
            unsafe_artifacts=unsafe_artifacts,
            signed_only=signed_only,
        )
        wanted = team_pb2.Team(name=team, namespace=namespace)
        wish.write(wanted)
        made = session.client.teams.create(wanted)
        session.output.result(made, lambda: _shown(made, ()))

    @command(group, "update", epilog="Example: infermesh teams update risk --requests-per-sec 1000 --burst 2000")
    def update(
        session: Session,
        team: TeamArgument,
        *,
        description: DescriptionOption = "",
        cpu: CpuOption = "",
        memory: MemoryOption = "",
        gpu: GpuOption = None,
        models: ModelsOption = None,
        batch_jobs: JobsOption = None,
        artifact_bytes: BytesOption = None,
        requests_per_sec: RateOption = None,
        burst: BurstOption = None,
        unsafe_artifacts: UnsafeOption = None,
        signed_only: SignedOption = None,
    ) -> None:
        """Change a team; what is not named stays. Quotas and rates are for platform admins."""
        wish = TeamWish(
            description=description,
            cpu=cpu,
            memory=memory,
            gpu=gpu,
            models=models,
            batch_jobs=batch_jobs,
            artifact_bytes=artifact_bytes,
            requests_per_sec=requests_per_sec,
            burst=burst,
            unsafe_artifacts=unsafe_artifacts,
            signed_only=signed_only,
        )
        found = session.client.teams.get(team)
        # A mask names whole messages: what is not said stays as it was read.
        wanted = team_pb2.Team(name=team, etag=found.etag)
        wanted.resource_quota.CopyFrom(found.resource_quota)
        wanted.rate_limit.CopyFrom(found.rate_limit)
        fields = wish.write(wanted)
        if not fields:
            raise typer.BadParameter("name what to change; `infermesh teams update --help` lists it")
        made = session.client.teams.update(wanted, fields=fields)
        session.output.result(made, lambda: _shown(made, ()))

    @command(group, "delete")
    def delete(session: Session, team: TeamArgument, *, etag: EtagOption = "") -> None:
        """Remove a team that owns no models. For platform admins."""
        session.client.teams.delete(team, etag=etag)
        session.output.result({"deleted": team}, lambda: f"team [bold]{escape(team)}[/] is gone")


def _add_members(group: typer.Typer) -> None:
    @command(group, "add", epilog="Example: infermesh teams add risk ada@example.com deployer")
    def add(
        session: Session,
        team: TeamArgument,
        user: UserArgument,
        role: Annotated[str, typer.Argument(metavar="ROLE", help="viewer, deployer or admin.")] = "viewer",
    ) -> None:
        """Give a user a role in a team, a new one where they had one."""
        member = session.client.teams.set_member(team, user, role)
        session.output.result(
            member, lambda: f"[bold]{escape(member.user)}[/] is {member.role} of [bold]{escape(member.team)}[/]"
        )

    @command(group, "remove")
    def remove(session: Session, team: TeamArgument, user: UserArgument) -> None:
        """Take a user out of a team. What they made with their keys of the team stays, the keys end."""
        session.client.teams.remove_member(team, user)
        session.output.result(
            {"removed": user, "team": team}, lambda: f"[bold]{escape(user)}[/] is no member of {escape(team)} any more"
        )


def _add_sharing(app: typer.Typer) -> None:
    @command(app, "share", epilog="Example: infermesh share fraud marketing")
    def share(session: Session, model: ModelArgument, team: TeamArgument) -> None:
        """Let another team read and call a model."""
        made = session.client.teams.share(model, team)
        session.output.result(made, lambda: f"{escape(model)} is shared with: {', '.join(made.shared_with)}")

    @command(app, "unshare")
    def unshare(session: Session, model: ModelArgument, team: TeamArgument) -> None:
        """Take that back."""
        made = session.client.teams.unshare(model, team)
        session.output.result(
            made, lambda: f"{escape(model)} is shared with: {', '.join(made.shared_with) or 'nobody else'}"
        )

    @command(app, "transfer")
    def transfer(session: Session, model: ModelArgument, team: TeamArgument) -> None:
        """Give a model to another team, with its versions, deployments and traffic."""
        made = session.client.teams.transfer(model, team)
        session.output.result(made, lambda: f"{escape(model)} belongs to [bold]{escape(made.team)}[/]")


def _shown(team: team_pb2.Team, members: Sequence[team_pb2.Member]) -> RenderableType:
    rows = [
        ("team", team.name),
        ("namespace", team.namespace),
        ("description", escape(team.description)),
        ("quota", quota_of(team.resource_quota)),
        ("rate", limits_of(team.rate_limit)),
        ("artifacts", "also such that run code while they load" if team.allow_unsafe_artifacts else ""),
        ("signatures", "required before a version is deployed" if team.require_signature else ""),
        ("made", when(team.created_at)),
    ]
    if not members:
        return facts(rows)
    listed = table("user", "role", "since")
    for member in members:
        listed.add_row(escape(member.user), member.role, when(member.created_at))
    return Group(facts(rows), "", listed)
