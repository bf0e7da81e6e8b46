"""`infermesh usage`, `prices`: what teams used, and what that costs."""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_team
from infermesh.client.cli.output import quantity
from infermesh.client.cli.quantities import now, parse_length, parse_moment
from infermesh.client.cli.session import EtagOption, Session, command
from infermesh.client.cli.usage_views import Shown, by_day, by_name, prices_shown, usage_shown
from infermesh.monitor.v1 import model_metrics_pb2
from rich.markup import escape


class By(StrEnum):
    """What entries are added up by."""

    MODEL = "model"
    VERSION = "version"
    DAY = "day"


TeamOption = Annotated[
    str, typer.Option("--team", metavar="TEAM", help="One team alone.", autocompletion=complete_team)
]
PriceOption = Annotated[float | None, typer.Option(metavar="PRICE", min=0.0, help="In the table's currency.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    _add_usage(app)
    group = typer.Typer(name="prices", help="See and set what usage costs.", no_args_is_help=True)
    _add_prices(group)
    app.add_typer(group)


def _add_usage(app: typer.Typer) -> None:
    @command(app, "usage", epilog="Example: infermesh usage --since 30d --by day --export july.csv")
    def usage(
        session: Session,
        *,
        team: TeamOption = "",
        since: Annotated[
            str, typer.Option(metavar="WHEN", help="30d, 2026-07-01, or a moment. Default: the first of the month.")
        ] = "",
        until: Annotated[str, typer.Option(metavar="WHEN", help="Likewise. Default: now.")] = "",
        by: Annotated[By, typer.Option(help="Added up by.")] = By.MODEL,
        export: Annotated[
            str,
            typer.Option(metavar="FILE", help="Write it by hour as CSV to this file; - is standard output."),
        ] = "",
    ) -> None:
        """Show what teams used and have stored, and what that costs, in whole hours.

        You see your own team's usage; platform admins see every team's.
        """
        start, end = _moment(since, "--since"), _moment(until, "--until")
        calls = session.client.usage
        if export:
            _write(session, export, calls.export(team=team, start=start, end=end))
            return
        if by is By.DAY:
            shown = by_day(calls.export(team=team, start=start, end=end))
        else:
            shown = by_name(calls.list(team=team, start=start, end=end), versions=by is By.VERSION)
        currency = _currency(session, shown)
        session.output.result({"usage": shown.as_json(), "currency": currency}, lambda: usage_shown(shown, currency))


def _add_prices(group: typer.Typer) -> None:
    @command(group, "show")
    def show(session: Session) -> None:
        """Show what usage costs."""
        prices = session.client.usage.prices()
        session.output.result(prices, lambda: prices_shown(prices))

    @command(group, "set", epilog="Example: infermesh prices set --currency EUR --per-1000-requests 0.02")
    def set_(
        session: Session,
        *,
        currency: Annotated[str | None, typer.Option(metavar="CURRENCY", help="What prices are in.")] = None,
        per_1000_requests: PriceOption = None,
        per_compute_hour: PriceOption = None,
        per_gpu_hour: PriceOption = None,
        per_gb_month: PriceOption = None,
        etag: EtagOption = "",
    ) -> None:
        """Change prices; what is not named stays. They hold for all time, past usage too. For platform admins."""
        wanted = {
            "currency": currency,
            "per_1000_requests": per_1000_requests,
            "per_compute_hour": per_compute_hour,
            "per_gpu_hour": per_gpu_hour,
            "per_gb_month": per_gb_month,
        }
        named = {name: value for name, value in wanted.items() if value is not None}
        if not named:
            raise typer.BadParameter("name what to change; `infermesh prices set --help` lists it")
        table = model_metrics_pb2.PriceTable()
        table.CopyFrom(session.client.usage.prices())
        for name, value in named.items():
            setattr(table, name, value)
        # What was read is what is changed: another's change in between is not undone.
        table.etag = etag or table.etag
        changed = session.client.usage.set_prices(table)
        session.output.result(changed, lambda: prices_shown(changed))


def _moment(text: str, option: str) -> datetime | None:
    """A moment, a day, or a length of time before now."""
    if not text:
        return None
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        pass
    else:
        return day
    if "T" in text:
        return parse_moment(text, option)
    return now() - parse_length(text, option, example="30d, 2026-07-01 or 2026-07-01T10:00:00Z")


def _currency(session: Session, shown: Shown) -> str:
    """What costs are in; empty where nothing costs anything, and then no column says so."""
    if not any(sums.cost for sums in shown.lines.values()):
        return ""
    return session.client.usage.prices().currency or "units"


def _write(session: Session, target: str, pieces: Iterable[bytes]) -> None:
    if target == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    size = written(Path(target), pieces)
    session.output.result(
        {"file": target, "size_bytes": size}, lambda: f"wrote [bold]{escape(target)}[/], {quantity(size)}"
    )


def written(path: Path, pieces: Iterable[bytes]) -> int:
    """Writes a file as a whole or not at all; its size. Raises typer.BadParameter where it cannot be written."""
    part, size = path.with_name(f".{path.name}.{os.getpid()}.part"), 0
    try:
        try:
            with part.open("xb") as file:
                for piece in pieces:
                    size += file.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise typer.BadParameter(f"{path} cannot be written: {why}", param_hint="--export") from None
    return size
