"""How versions do at this moment, out of the last two minutes that went through this process; for Prometheus."""

from collections.abc import Mapping
from datetime import datetime

from services.monitor.domain.aggregate import Cell, CellKey, merged
from services.monitor.domain.figures import figures
from services.monitor.domain.window import minute_of, minute_start
from services.monitor.ports import LiveFigure

Version = tuple[str, str, str]
"""Model, version and deployment."""


class Live:
    """Forgets what is older than the minute before this one, so it stays as small as the live versions are few."""

    def __init__(self) -> None:
        self._cells: dict[int, dict[Version, Cell]] = {}

    def add(self, cells: Mapping[CellKey, Cell]) -> None:
        """Adds what was just counted."""
        for key, cell in cells.items():
            if key.version:
                self._cells.setdefault(key.minute, {}).setdefault(_version(key), Cell()).merge(cell)

    def figures(self, now: datetime) -> list[LiveFigure]:
        """The figures of each version over the minute before and what has passed of this one."""
        first = minute_of(now) - 1
        for minute in [minute for minute in self._cells if minute < first]:
            del self._cells[minute]
        seconds = (now - minute_start(first)).total_seconds()
        versions = sorted({key for cells in self._cells.values() for key in cells})
        shown = []
        for version in versions:
            total = merged(cells[version] for cells in self._cells.values() if version in cells)
            now_figures = figures(total, seconds=seconds)
            shown.append(LiveFigure(*version, now_figures.throughput_per_sec, round(now_figures.latency_p95_ms, 3)))
        return shown


def _version(key: CellKey) -> Version:
    return (key.model, key.version, key.deployment)
