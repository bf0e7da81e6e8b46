"""`infermesh traffic`: which share of a model's requests each version answers. `infermesh rollback` is one of them."""

import re
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_version
from infermesh.client.cli.session import EtagOption, LimitOption, ModelArgument, ReasonOption, Session, command
from infermesh.client.cli.traffic_options import (
    Change,
    ClearOption,
    KeyOption,
    ShadowOption,
    SharesArgument,
    StickyOption,
    StrategyOption,
    WhenOption,
    parse_change,
)
from infermesh.client.cli.traffic_views import changes_listed, plan_shown, resolved_shown, rules_listed, traffic_shown
from infermesh.client.traffic import ROLL_BACK_TIMEOUT_S


def add_to(app: typer.Typer) -> None:
    """Registers the group, and `rollback` beside it: whoever needs it is in a hurry."""
    group = typer.Typer(name="traffic", help="Share a model's requests among its versions.", no_args_is_help=True)

    @command(group, "show")
    def show(session: Session, model: ModelArgument) -> None:
        """Show the shares of a model's versions."""
        traffic = session.client.traffic.get(model)
        session.output.result(traffic, lambda: traffic_shown(traffic))

    _add_set(group)
    _add_plan(group)
    _add_undo(group)
    _add_rollback(group, "traffic rollback")
    _add_looks(group)
    app.add_typer(group)
    _add_rollback(app, "rollback")


def _add_set(group: typer.Typer) -> None:
    @command(
        group,
        "set",
        epilog="Examples: infermesh traffic set digits v1.0.0=90 v1.1.0=10 · infermesh traffic set digits --when "
        "region=eu:v1.1.0 --shadow v1.1.0=10%",
    )
    def set_(
        session: Session,
        model: ModelArgument,
        shares: SharesArgument = None,
        *,
        sticky: StickyOption = None,
        key: KeyOption = "",
        strategy: StrategyOption = "",
        when: WhenOption = None,
        shadow: ShadowOption = None,
        clear: ClearOption = None,
        etag: EtagOption = "",
        reason: ReasonOption = "",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    ) -> None:
        """Change a model's traffic, all in one step. What is not said stays; of shares, versions not named get none."""
        change = parse_change(shares, sticky=sticky, key=key, strategy=strategy, when=when, shadow=shadow, clear=clear)
        if dry_run:
            _plan(session, model, change, etag)
            return
        traffic = session.client.traffic.set(
            model,
            change.split,
            strategy=change.strategy,
            sticky_key_header=change.sticky_key_header,
            conditions=change.conditions,
            shadows=change.shadows,
            clear=change.clear,
            etag=etag,
            reason=reason,
        )
        session.output.result(traffic, lambda: traffic_shown(traffic))


def _add_plan(group: typer.Typer) -> None:
    @command(group, "plan", epilog="Example: infermesh traffic plan digits v1.0.0=50 v1.1.0=50 --sticky x-user-id")
    def plan(
        session: Session,
        model: ModelArgument,
        shares: SharesArgument = None,
        *,
        sticky: StickyOption = None,
        key: KeyOption = "",
        strategy: StrategyOption = "",
        when: WhenOption = None,
        shadow: ShadowOption = None,
        clear: ClearOption = None,
        etag: EtagOption = "",
    ) -> None:
        """Show exactly what `traffic set` with the same words would change. It fails as that would."""
        change = parse_change(shares, sticky=sticky, key=key, strategy=strategy, when=when, shadow=shadow, clear=clear)
        _plan(session, model, change, etag)


def _plan(session: Session, model: str, change: Change, etag: str) -> None:
    plan = session.client.traffic.plan(
        model,
        change.split,
        strategy=change.strategy,
        sticky_key_header=change.sticky_key_header,
        conditions=change.conditions,
        shadows=change.shadows,
        clear=change.clear,
        etag=etag,
    )
    session.output.result(plan, lambda: plan_shown(plan))


def _add_undo(group: typer.Typer) -> None:
    @command(group, "undo")
    def undo(session: Session, model: ModelArgument, reason: ReasonOption = "", etag: EtagOption = "") -> None:
        """Bring back what held before the last change. Again, it undoes the undo."""
        traffic = session.client.traffic.undo(model, reason=reason, etag=etag)
        session.output.result(traffic, lambda: traffic_shown(traffic))


def _add_rollback(app: typer.Typer, name: str) -> None:
    @command(app, "rollback", epilog=f"Example: infermesh {name} digits v1.0.0 --reason 'too many errors'")
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
        *,
        reason: ReasonOption = "",
        etag: EtagOption = "",
        for_s: Annotated[
            float,
            typer.Option(
                "--for", metavar="SECONDS", min=0.001, help="The longest to wait where it must be deployed first."
            ),
        ] = ROLL_BACK_TIMEOUT_S,
    ) -> None:
        """Give all traffic to one version, at once.

        A canary or A/B test that runs ends. A version that is not deployed any more is deployed first.
        """
        traffic = session.client.traffic.roll_back(
            model, to_version=version or "", reason=reason, etag=etag, timeout_s=for_s
        )
        session.output.result(traffic, lambda: traffic_shown(traffic))


def _add_looks(group: typer.Typer) -> None:
    @command(
        group, "resolve", epilog="Example: infermesh traffic resolve digits --header x-user-id=42 --header x-region=eu"
    )
    def resolve(
        session: Session,
        model: ModelArgument,
        *,
        header: Annotated[
            list[str] | None,
            typer.Option("--header", "-H", metavar="NAME=VALUE", help="A header of the request. Repeatable."),
        ] = None,
        version: Annotated[
            str,
            typer.Option(
                "--version",
                "-v",
                metavar="VERSION",
                help="What the request asks for: a version, or an alias such as champion.",
                autocompletion=complete_version,
            ),
        ] = "",
    ) -> None:
        """Say which version a request would get, and why."""
        headers = dict(_header(text) for text in header or ())
        route = session.client.traffic.resolve(model, version=version, headers=headers)
        session.output.result(route, lambda: resolved_shown(model, headers, route))

    @command(group, "rules")
    def rules(session: Session, model: ModelArgument, limit: LimitOption = 50) -> None:
        """List the rules that decide, or decided, a model's traffic."""
        found = list(session.client.traffic.rules(model, limit=limit))
        session.output.result({"traffic_rules": found}, lambda: rules_listed(found))

    @command(group, "history")
    def history(session: Session, model: ModelArgument, limit: LimitOption = 20) -> None:
        """List the changes of a model's traffic, newest first."""
        changes = list(session.client.traffic.changes(model, limit=limit))
        session.output.result({"changes": changes}, lambda: changes_listed(changes))


def _header(text: str) -> tuple[str, str]:
    """NAME=VALUE, or NAME: VALUE as in curl. Raises typer.BadParameter."""
    match = re.fullmatch(r"([A-Za-z0-9_-]+)\s*[=:]\s*(.+)", text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no header; say NAME=VALUE, for instance x-user-id=42", param_hint="--header"
        )
    return match[1].lower(), match[2]
