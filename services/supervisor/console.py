"""What a person sees of a local mesh: progress while it starts, a table of what runs where, lines to try."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.supervisor.engine import Died, Event, Ready, Stopped
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
        self._ready: dict[str, tuple[Part, int]] = {}

    def saw(self, event: Event) -> None:
        """One line for what happened."""
        name = event.part.name
        match event:
            case Ready(part, pid, seconds):
                self._ready[name] = (part, pid)
                self._line(f"  [green]✓[/] {name:<10} ready after {seconds:.1f} s")
            case Died(part, exit_code, delay_s):
                when = f" in {delay_s:.1f} s" if delay_s else ""
                self._line(
                    f"  [red]✗[/] {name} died (exit code {exit_code}) and starts again{when}; see {part.log_path}"
                )
            case Stopped():
                self._line(f"  [dim]stopped {name}[/]")

    def table(self, data_dir: Path) -> None:
        """What runs where; logs are shown as seen from `data_dir`."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("part", "what for", "address", "pid", "log"):
            table.add_column(heading, no_wrap=True, justify="right" if heading == "pid" else "left")
        for part, pid in self._ready.values():
            address = f"127.0.0.1:{next(iter(part.ports.values()))}"
            log = part.log_path.relative_to(data_dir) if part.log_path.is_relative_to(data_dir) else part.log_path
            table.add_row(part.name, _PURPOSES.get(part.name, ""), address, str(pid), str(log))
        self._console.print()
        self._console.print(table)

    def lines_to_try(self, lines: Sequence[tuple[str, str]]) -> None:
        """Commands that work when pasted, each with what it does."""
        for what, command in lines:
            self._console.print(f"\n[bold]{what}[/]", highlight=False)
            self._console.print(command, highlight=False, markup=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(text, highlight=False, soft_wrap=True)
