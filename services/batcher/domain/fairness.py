"""What waits for one version, shared fairly between tenants, served by priority.

Tenants share a version's rows by their weights, by deficit round robin (M. Shreedhar, G. Varghese, Efficient Fair
Queueing using Deficit Round Robin, SIGCOMM 1995) on two levels: whose turn it is decides which group's batch leaves
next, and within a batch the tenants of that group take turns to put their rows in. A tenant whose turn it is serves
while its credit lasts, and what it took beyond is a debt in its next turn, so no request needs to be measured first.
A batch is charged to all whose rows are in it. While one tenant waits there are no turns and nothing is counted.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from services.batcher.domain.queue import Line, Waiter

_IDLE_MAX = 8
"""Lines of a group, and tenants of a tier, that are kept without requests, so that the next one finds them ready."""
_DEBT_BATCHES = 2
"""A tenant's debt is at most this many batches: it was left to it, because room in a batch would have stayed empty."""

WeightOf = Callable[[str], float]
"""A tenant's weight: its share relative to the others'. Above 0."""


def equal_weights(_tenant: str) -> float:
    """Everybody's share is the same."""
    return 1.0


def weights(by_tenant: Mapping[str, float]) -> WeightOf:
    """Everybody's weight is 1 but for those that are named."""
    return lambda tenant: by_tenant.get(tenant, 1.0)


class Share:
    """One tenant in one tier."""

    __slots__ = ("credit", "lines", "tenant", "tier", "weight")

    def __init__(self, tier: "Tier", tenant: str, weight: float) -> None:
        self.tier = tier
        self.tenant = tenant
        self.weight = weight
        self.credit = 0.0
        """Rows that may leave before the next tenant's turn; below 0 a debt."""
        self.lines: OrderedDict[Line, None] = OrderedDict()
        """Where it waits, by turns."""

    def charge(self, rows: int, *, rows_max: int) -> None:
        """Rows of it have left, in a batch of at most `rows_max`."""
        self.credit = max(self.credit - rows, -float(_DEBT_BATCHES * rows_max))

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum([line.rows for line in self.lines])

    @property
    def bytes(self) -> int:
        """Input bytes that wait."""
        return sum([line.bytes for line in self.lines])


class Tier:
    """All of one priority that waits for a version."""

    __slots__ = ("_emptied", "_shares", "_weight_of", "came", "ring", "rows_came", "weights")

    def __init__(self, weight_of: WeightOf) -> None:
        self.came = 0
        """Requests that were admitted since somebody took the count."""
        self.rows_came = 0
        """Their rows."""
        self._weight_of = weight_of
        self._shares: dict[str, Share] = {}
        self._emptied: Line | None = None
        """The only line of the only tenant in the ring, where nobody is left in it."""
        self.ring: OrderedDict[Share, None] = OrderedDict()
        """Tenants who wait, by turns."""
        self.weights = 0.0
        """Of all in the ring."""

    def share(self, tenant: str) -> Share:
        """The tenant's, waiting or not."""
        share = self._shares.get(tenant)
        if share is None:
            if len(self._shares) >= _IDLE_MAX + 2 * len(self.ring):
                self._shares = {one.tenant: one for one in self.ring}
            share = self._shares[tenant] = Share(self, tenant, self._weight_of(tenant))
        return share

    def lines(self) -> Iterator[Line]:
        """The lines in which somebody waits."""
        return (line for share in self.ring for line in share.lines if line.rows)

    def weights_with(self, tenant: str) -> float:
        """The weight of all who wait and of that tenant."""
        share = self.share(tenant)
        if not self.waits:
            return share.weight
        return self.weights if share.lines else self.weights + share.weight

    @property
    def waits(self) -> bool:
        """Whether anybody waits."""
        return self._emptied is None and bool(self.ring)

    def enlist(self, line: Line) -> None:
        """The first of a line has come."""
        line.listed = True
        emptied = self._emptied
        if emptied is not None:
            self._emptied = None
            if emptied is line:
                return
            self._remove(emptied)
        # A line that was idle may know a share that was let go in the meantime.
        share = line.share = self.share(line.tenant)
        line.queue.turns[line] = None
        line.queue.weights += share.weight
        if not share.lines:
            self.ring[share] = None
            self.weights += share.weight
        share.lines[line] = None

    def delist(self, line: Line) -> None:
        """The last of a line has gone."""
        line.listed = False
        if len(self.ring) == 1 and len(line.share.lines) == 1:
            # Mostly it is the same one that comes back next.
            self._emptied = line
        else:
            self._remove(line)

    def _remove(self, line: Line) -> None:
        line.credit = 0.0
        queue, share = line.queue, line.share
        del queue.turns[line]
        queue.weights = queue.weights - share.weight if queue.turns else 0.0
        del share.lines[line]
        if not share.lines:
            share.credit = 0.0
            del self.ring[share]
            self.weights = self.weights - share.weight if self.ring else 0.0

    def in_turn(self, *, rows_max: int) -> Iterator[Line]:
        """Each group that waits, by a line of the tenant whose turn it is. Nothing may change between two steps."""
        ring = self.ring
        if self._emptied is not None or not ring:
            return iter(())
        if len(ring) == 1:
            return iter(next(iter(ring)).lines)
        return self._by_turns(ring, rows_max)

    def _by_turns(self, ring: OrderedDict[Share, None], rows_max: int) -> Iterator[Line]:
        quantum = max(1.0, rows_max / len(ring)) * len(ring) / self.weights
        while (share := next(iter(ring))).credit <= 0.0:
            share.credit += quantum * share.weight
            ring.move_to_end(share)
        seen: set[Queue] = set()
        for share in ring:
            for line in share.lines:
                if line.queue not in seen:
                    seen.add(line.queue)
                    yield line


class Queue:
    """Who waits in one group: a line for each tenant."""

    __slots__ = ("_lines", "recent", "tier", "turns", "weights")

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.turns: OrderedDict[Line, None] = OrderedDict()
        """Lines in which somebody waits, by turns."""
        self.weights = 0.0
        """Of their tenants."""
        self._lines: dict[str, Line] = {}
        self.recent: Line | None = None
        """The line asked for last: mostly it is asked for next, too."""

    def __len__(self) -> int:
        """Requests that wait."""
        return sum(map(len, self.turns))

    @property
    def rows(self) -> int:
        """Rows that wait."""
        turns, recent = self.turns, self.recent
        if len(turns) == 1 and recent is not None and recent in turns:
            return recent.rows
        return sum([line.rows for line in turns])

    def oldest_s(self) -> float:
        """When the first of those who wait arrived."""
        if len(self.turns) == 1:
            return next(iter(self.turns)).oldest_s()
        return min([line.oldest_s() for line in self.turns])

    def line(self, tenant: str) -> Line:
        """The tenant's line."""
        line = self._lines.get(tenant)
        if line is None:
            if len(self._lines) >= _IDLE_MAX + 2 * len(self.turns):
                self._lines = {one.tenant: one for one in self.turns}
            line = self._lines[tenant] = Line(self, self.tier.share(tenant))
        self.recent = line
        return line

    def fill(
        self, batch: list[Waiter], expired: list[Waiter], *, rows_max: int, requests_max: float, late_s: float
    ) -> int:
        """Moves into `batch` what fits, its tenants by turns, and charges them. Returns the rows."""
        turns = self.turns
        rows = 0
        while turns and rows < rows_max and len(batch) < requests_max:
            line = next(iter(turns))
            if not line.rows:
                break
            share = line.share
            if line.credit <= 0.0:
                # Of who is here now: with heavy ones gone, a light one must not come round thousands of times.
                line.credit += max(1.0, rows_max / len(turns)) * len(turns) / self.weights * share.weight
                turns.move_to_end(line)
                continue
            credit = line.credit
            taken = line.take(
                batch, expired, rows_left=rows_max - rows, requests_max=requests_max, late_s=late_s, credit=credit
            )
            rows += taken
            line.credit -= taken
            share.charge(taken, rows_max=rows_max)
            if not line.rows:
                self.tier.delist(line)
            elif taken < credit:
                break
        return rows
