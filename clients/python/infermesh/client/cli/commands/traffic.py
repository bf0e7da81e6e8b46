"""`infermesh traffic`: which share of a model's requests each version answers."""

from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_version
from infermesh.client.cli.output import bar, facts, table, when
from infermesh.client.cli.session import ModelArgument, Session, command
from infermesh.client.cli.splits import parse_split
from infermesh.router.v1 import router_service_pb2, traffic_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

_PLAIN_RULE = "split"
"""The name of the rule that holds where no canary or A/B test does."""


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="traffic", help="Share a model's requests among its versions.", no_args_is_help=True)

    @command(group, "show")
    def show(session: Session, model: ModelArgument) -> None:
        """Show the shares of a model's versions."""
        traffic = session.client.traffic.get(model)
        session.output.result(traffic, lambda: _shown(traffic))

    _add_set(group)
    _add_back(group)

    @command(group, "history")
    def history(
        session: Session,
        model: ModelArgument,
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    ) -> None:
        """List the changes of a model's traffic, newest first."""
        changes = list(session.client.traffic.changes(model, limit=limit))
        session.output.result({"changes": changes}, lambda: _changes(changes))

    app.add_typer(group)


def _add_set(group: typer.Typer) -> None:
    @command(group, "set", epilog="Example: infermesh traffic set digits v1.0.0=90 v1.1.0=10")
    def set_(
        session: Session,
        model: ModelArgument,
        shares: Annotated[
            list[str],
            typer.Argument(metavar="VERSION=PERCENT...", help="The shares, adding up to 100.", show_default=False),
        ],
        *,
        sticky: Annotated[
            bool | None,
            typer.Option("--sticky/--random", help="The same user gets the same version, or chance. Default: as is."),
        ] = None,
        key: Annotated[
            str, typer.Option(metavar="HEADER", help="The header that tells users apart. Default: x-user-id.")
        ] = "",
        reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the history.")] = "",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    ) -> None:
        """Set the shares of a model's versions, all in one step. Versions that are not named get none."""
        split = parse_split(shares, "VERSION=PERCENT")
        strategy = "" if sticky is None else "sticky" if sticky else "random"
        if dry_run:
            plan = session.client.traffic.plan(model, split, strategy=strategy, sticky_key_header=key)
            session.output.result(plan, lambda: _planned(plan))
            return
        traffic = session.client.traffic.set(model, split, strategy=strategy, sticky_key_header=key, reason=reason)
        session.output.result(traffic, lambda: _shown(traffic))


def _add_back(group: typer.Typer) -> None:
    @command(group, "undo")
    def undo(
        session: Session,
        model: ModelArgument,
        reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the history.")] = "",
    ) -> None:
        """Bring back the shares before the last change."""
        traffic = session.client.traffic.undo(model, reason=reason)
        session.output.result(traffic, lambda: _shown(traffic))

    @command(group, "rollback", epilog="Example: infermesh traffic rollback digits v1.0.0 --reason 'too many errors'")
    def rollback(
        session: Session,
        model: ModelArgument,
        version: Annotated[
            str | None,
            typer.Argument(
                metavar="[VERSION]",
                help="Who gets all. Default: who had the most before.",
                show_default=False,
                autocompletion=complete_version,
            ),
        ] = None,
        reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the history.")] = "",
    ) -> None:
        """Give all traffic to one version, at once."""
        traffic = session.client.traffic.roll_back(model, to_version=version or "", reason=reason)
        session.output.result(traffic, lambda: _shown(traffic))


def _shown(traffic: traffic_pb2.Traffic) -> RenderableType:
    shares = table("version", "share", "", "now", right=["share", "now"])
    shared = dict(traffic.traffic_split)
    versions = sorted({*shared, *traffic.ready_versions}, key=lambda version: (-shared.get(version, 0), version))
    for version in versions:
        share = shared.get(version, 0)
        now = traffic.effective_split.get(version, 0)
        shares.add_row(
            escape(version),
            f"{share} %",
            f"[cyan]{bar(share / 100)}[/]",
            "" if now == share else f"[yellow]{now} %[/]",
        )
    sticky = f" by {traffic.sticky_key_header}" if traffic.sticky_key_header else ""
    conditions = [f"{item.attribute} {', '.join(item.values)} → {item.version}" for item in traffic.conditions]
    about = facts(
        (
            ("model", escape(traffic.model_name)),
            ("chosen", escape(f"{traffic.routing_strategy}{sticky}")),
            ("first", escape("; ".join(conditions))),
            ("decided by", escape(_decider(traffic))),
            ("copies to", escape(", ".join(f"{one.version} {one.percent or 100} %" for one in traffic.shadows))),
            ("since", when(traffic.updated_at)),
            ("why", escape(traffic.reason)),
        )
    )
    wrong = [f"[yellow]{escape(item.message)}[/]" for item in traffic.status_conditions if item.status == "False"]
    return Group(about, "", shares, *wrong)


def _decider(traffic: traffic_pb2.Traffic) -> str:
    """The canary or A/B test that decides the shares; empty where they are the plain ones, as they mostly are."""
    return "" if traffic.governing_rule == _PLAIN_RULE else traffic.governing_rule


def _planned(plan: router_service_pb2.TrafficPlan) -> RenderableType:
    if not plan.changes:
        return "[dim]nothing would change[/]"
    return Group(*(escape(change) for change in plan.changes), f"[dim]{plan.moved_percent} % of the traffic moves[/]")


def _changes(changes: list[traffic_pb2.TrafficChange]) -> RenderableType:
    if not changes:
        return "[dim]no changes[/]"
    shown = table("when", "what", "who", "before", "after", "why")
    for one in changes:
        shown.add_row(
            when(one.time),
            escape(one.action),
            escape(one.actor),
            _split(dict(one.before)),
            _split(dict(one.after)),
            escape(one.reason),
        )
    return shown


def _split(split: dict[str, int]) -> str:
    return escape(", ".join(f"{version} {share} %" for version, share in sorted(split.items())))
