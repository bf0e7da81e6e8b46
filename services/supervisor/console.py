"""What a person sees of a local mesh: progress while it starts, a table of what runs where, lines to try."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from services.supervisor.parts.part import Part

_PURPOSES = {
    "postgres": "what must not be lost",
    "redis": "caches",
    "triton": "runs the models",
    "registry": "models, versions, artifacts",
    "router": "traffic; programs the gateway",
    "deployer": "loads versions and keeps them loaded",
    "batcher": "predictions, in batches",
    "batch": "jobs over files",
    "monitor": "metrics of predictions",
    "gateway": "the one address for clients",
}


class ConsoleReporter:
    """Writes one line an event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ready: list[tuple[Part, float]] = []

    def starting(self, part: Part) -> None:
        """Said only when it is ready: a start takes a moment."""

    def ready(self, part: Part, seconds: float) -> None:
        """A part answers."""
        self._ready = [(known, took) for known, took in self._ready if known.name != part.name]
        self._ready.append((part, seconds))
        self._console.print(f"  [green]✓[/] {part.name:<10} ready after {seconds:.1f} s", highlight=False)

    def died(self, part: Part, exit_code: int, delay_s: float) -> None:
        """A part died and comes back."""
        self._console.print(
            f"  [red]✗[/] {part.name} died (exit code {exit_code}) and starts again"
            f"{f' in {delay_s:.1f} s' if delay_s else ''}; its log is {part.log_path}",
            highlight=False,
            soft_wrap=True,
        )

    def stopped(self, part: Part) -> None:
        """A part is down."""
        self._console.print(f"  [dim]stopped {part.name}[/]", highlight=False)

    def table(self, pids: Mapping[str, int]) -> None:
        """What runs where."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("part", "what for", "address", "pid", "log"):
            table.add_column(heading, no_wrap=heading != "log", overflow="fold")
        for part, _ in self._ready:
            purpose, port = next(iter(part.ports.items()))
            address = f"127.0.0.1:{port}" if purpose else ""
            table.add_row(
                part.name, _PURPOSES.get(part.name, ""), address, str(pids.get(part.name, "")), part.log_path.name
            )
        self._console.print()
        self._console.print(table)

    def lines_to_try(self, lines: Sequence[tuple[str, str]]) -> None:
        """Commands that work when pasted, each with what it does."""
        for what, command in lines:
            self._console.print(f"\n[bold]{what}[/]", highlight=False)
            self._console.print(command, highlight=False, markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(text, highlight=False, soft_wrap=True)
