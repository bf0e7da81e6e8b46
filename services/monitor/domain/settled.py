"""What of a watched window does not change any more, so that it need not be read again.

Minutes that are some minutes old change only where requests come late, and every late change of a model is numbered.
As long as a model has no new number, the sums of its older minutes are those that were read before. Whoever counts
calls a request late a few minutes before whoever reads calls its minute settled, so a transaction that takes a while
cannot slip in between.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.monitor.domain.aggregate import Cell
from services.monitor.domain.evidence import WatchKey, head_end

LATE_AFTER = timedelta(minutes=2)
"""What is counted into minutes that began longer ago is numbered as a late change."""
SETTLED_AFTER = timedelta(minutes=5)
"""Minutes that began longer ago are settled."""
_KEPT_MAX = 500


@dataclass(frozen=True)
class Settled:
    """The sums of a window from its beginning to before `until`, as of a late change."""

    begins: datetime
    until: datetime
    changes: int
    cells: Mapping[str, Cell] = field(default_factory=dict)


class SettledWindows:
    """What was read before, of the windows that were asked for last."""

    def __init__(self) -> None:
        self._known: OrderedDict[WatchKey, Settled] = OrderedDict()

    def known(self, key: WatchKey, *, begins: datetime, changes: int) -> Settled:
        """What needs no reading; nothing where the window begins elsewhere now, or something came late."""
        found = self._known.get(key)
        if found is None or found.begins != begins or found.changes != changes:
            return Settled(begins, begins, changes)
        return found

    def keep(self, key: WatchKey, settled: Settled) -> None:
        """Remembers it, and forgets the window that was not asked for longest."""
        self._known[key] = settled
        self._known.move_to_end(key)
        if len(self._known) > _KEPT_MAX:
            self._known.popitem(last=False)


def settled_until(settled: Settled, minute_now: datetime) -> datetime:
    """How far a window is settled now: whole minutes, the seconds that it begins with at once, and never less than
    before.
    """
    until = minute_now - SETTLED_AFTER
    return max(settled.until, until) if until >= head_end(settled.begins) else settled.until


def merged_cells(*parts: Mapping[str, Cell]) -> dict[str, Cell]:
    """The cells of all parts by version, added up; the parts stay as they are."""
    total: dict[str, Cell] = {}
    for part in parts:
        for version, cell in part.items():
            total.setdefault(version, Cell()).merge(cell)
    return total
