"""What a person sees of a local mesh: progress while it starts, a table of what runs where, lines to try."""

from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from services.supervisor.engine import Died, Event, Held, Ready, Stopped
from services.supervisor.parts.part import Part

_PURPOSES = {
    "postgres": "what must not be lost",
    "redis": "features",
    "redis-cache": "kept predictions",
    "triton": "runs the models",
    "registry": "models, versions, artifacts",
    "router": "traffic; programs the gateway",
    "deployer": "loads versions and keeps them loaded",
    "batcher": "predictions, in batches",
    "batch": "jobs over files",
    "monitor": "metrics of predictions",
    "limiter": "rate limits over all gateways",
    "gateway": "the one address for clients",
    "keeper": "the gateway's configuration on disk",
}


class ConsoleReporter:
    """Writes one line an event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ready: dict[str, tuple[Part, int]] = {}

    def saw(self, event: Event) -> None:
        """One line for what happened."""
        name = event.part.name
        match event:
            case Ready(part, pid, seconds):
                self._ready[name] = (part, pid)
                self._line(f"  [green]✓[/] {name:<11} ready after {seconds:.1f} s")
            case Died(part, exit_code, delay_s):
                when = f" in {delay_s:.1f} s" if delay_s else ""
                self._line(
                    f"  [red]✗[/] {name} died (exit code {exit_code}) and starts again{when}; see {part.log_path}"
                )
            case Held():
                self._line(f"  [yellow]-[/] {name} is held: it stays down until its file in the folder hold is gone")
            case Stopped():
                self._line(f"  [dim]stopped {name}[/]")

    def table(self) -> None:
        """What runs where. Names, addresses and pids are there to be pasted: where it is narrow, the purposes fold."""
        parts = list(self._ready.values())
        table = Table(box=None, pad_edge=False, header_style="bold")
        _add_uncut(table, "part", [part.name for part, _ in parts])
        table.add_column("what for", overflow="fold")
        _add_uncut(table, "address", [_address(part) for part, _ in parts])
        _add_uncut(table, "pid", [str(pid) for _, pid in parts], justify="right")
        for part, pid in parts:
            table.add_row(part.name, _PURPOSES.get(_kind(part), ""), _address(part), str(pid))
        folders = sorted({str(part.log_path.parent) for part, _ in parts})
        self._console.print(f"\nEach part has its log in {', '.join(folders)}\n", markup=False, soft_wrap=True)
        # Without soft wrap a table that is wider than the terminal would be cut at its edge.
        self._console.print(table, soft_wrap=True)

    def lines_to_try(self, lines: Sequence[tuple[str, str]]) -> None:
        """Commands that work when pasted, each with what it does."""
        for what, command in lines:
            self._console.print(f"\n[bold]{what}[/]", highlight=False)
            self._console.print(command, highlight=False, markup=False, soft_wrap=True)

    def key(self, first: str | None) -> None:
        """The operator's key, the one time that it is there; later where to get another one."""
        if first is None:
            self.say("\nCallers need a key in INFERMESH_API_KEY; `make key` makes another one for an operator.")
            return
        self._console.print("\n[bold]The operator's key; keep it now, it is not shown again[/]", highlight=False)
        self._console.print(f"export INFERMESH_API_KEY={first}", highlight=False, markup=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(text, highlight=False, soft_wrap=True)


def _kind(part: Part) -> str:
    """What it is one of: "batcher-2" is a batcher."""
    name, _, place = part.name.rpartition("-")
    return name if place.isdecimal() else part.name


def _address(part: Part) -> str:
    return f"127.0.0.1:{next(iter(part.ports.values()))}"


def _add_uncut(table: Table, heading: str, cells: Sequence[str], *, justify: Literal["left", "right"] = "left") -> None:
    """A column that is as wide as its widest cell, whatever that leaves for others."""
    table.add_column(heading, no_wrap=True, min_width=max(map(cell_len, (heading, *cells))), justify=justify)
