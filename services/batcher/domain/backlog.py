"""All that waits for one version: who is next, who has waited too long, and who makes room when it is full.

While the version's queue is not full it is anybody's: one tenant may fill it. Once it is full, a newcomer of a higher
priority takes the place of the newest requests of lower ones, and one whose tenant holds less than its share of the
queue takes that of the newest requests of tenants who hold more. So nobody is locked out, and nobody is sent away for
the sake of a tenant that has its share already.
"""

from math import inf

from services.batcher.domain.fairness import Queue, Share, Tier, WeightOf
from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import MATTERS_S, Line, Waiter


class Backlog:
    """The waiting requests of a version, of every priority, tenant and group."""

    __slots__ = ("rows", "tiers")

    def __init__(self, weight_of: WeightOf) -> None:
        self.tiers = tuple(Tier(weight_of) for _ in Priority)
        self.rows = 0
        """Rows that wait."""

    def push(self, queue: Queue, tenant: str, waiter: Waiter) -> None:
        """Adds one to its tenant's line."""
        line = queue.recent
        if line is None or line.tenant != tenant:
            line = queue.line(tenant)
        line.push(waiter)
        self.rows += waiter.rows
        if not line.listed:
            queue.tier.enlist(line)

    def leave(self, waiter: Waiter) -> None:
        """Takes one out, wherever it stands; nothing where it does not wait here."""
        line = waiter.line
        if line is None:
            return
        line.leave(waiter)
        self.rows -= waiter.rows
        if not line.rows:
            line.queue.tier.delist(line)

    def take(
        self, line: Line, *, rows_max: int, requests_max: float, late_s: float
    ) -> tuple[list[Waiter], list[Waiter]]:
        """One batch of the line's group, and those who would have been in it and whose deadlines are up to `late_s`."""
        queue, share = line.queue, line.share
        tier = queue.tier
        batch: list[Waiter] = []
        expired: list[Waiter] = []
        if len(queue.turns) > 1:
            rows = queue.fill(batch, expired, rows_max=rows_max, requests_max=requests_max, late_s=late_s)
        else:
            rows = line.take(batch, expired, rows_left=rows_max, requests_max=requests_max, late_s=late_s, credit=inf)
            if len(tier.ring) > 1:
                share.charge(rows, rows_max=rows_max)
            if not line.rows:
                tier.delist(line)
        if len(share.lines) > 1 and line.listed:
            share.lines.move_to_end(line)
        self.rows -= rows
        if expired:
            self.rows -= sum([waiter.rows for waiter in expired])
        return batch, expired

    def expire(self, now_s: float, *, at_most: int) -> tuple[list[Waiter], float]:
        """Takes out those whose deadlines have passed. Returns them and the next deadline."""
        expired: list[Waiter] = []
        next_s = inf
        for line in self._lines():
            due_s = line.due_s()
            if due_s <= now_s:
                expired += line.expire(now_s, at_most=at_most - len(expired))
                due_s = line.due_s()
                if not line.rows:
                    line.queue.tier.delist(line)
            next_s = min(next_s, due_s)
        self.rows -= sum([waiter.rows for waiter in expired])
        return expired, next_s

    def clear(self, priority: Priority | None = None) -> list[Waiter]:
        """Takes out everybody, or everybody of one priority."""
        lines = self._lines() if priority is None else self.tiers[priority].lines()
        waiters = [waiter for line in lines for waiter in line]
        for waiter in waiters:
            self.leave(waiter)
        return waiters

    def __len__(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._lines()))

    @property
    def bytes(self) -> int:
        """Input bytes that wait."""
        return sum([line.bytes for line in self._lines()])

    @property
    def lines(self) -> int:
        """How many lines there are in which somebody waits."""
        return sum([len(share.lines) for tier in self.tiers for share in tier.ring])

    def _lines(self) -> list[Line]:
        return [line for tier in self.tiers for share in tier.ring for line in share.lines]

    # -- when it is full

    def make_room(
        self,
        tenant: str,
        priority: Priority,
        *,
        rows: int,
        size: int,
        rows_over: int = 0,
        rows_max: int = 0,
        bytes_over: int = 0,
        bytes_max: int = 0,
    ) -> list[Waiter]:
        """Takes out whoever has to go so that a newcomer of `rows` rows and `size` bytes may come, which would exceed
        the bounds `rows_max` and `bytes_max` by `rows_over` and `bytes_over`. Nobody, where it has no right to that."""
        tier = self.tiers[priority]
        lower = [share for below in reversed(self.tiers[priority + 1 :]) for share in below.ring if below.waits]
        rows_free, bytes_free = sum([share.rows for share in lower]), sum([share.bytes for share in lower])
        rich: list[Share] = []
        if rows_free < rows_over or bytes_free < bytes_over:
            mine, weights = tier.share(tenant), tier.weights_with(tenant)
            part = mine.weight / weights
            if (rows_over > 0 and mine.rows + rows > part * rows_max) or (
                bytes_over > 0 and mine.bytes + size > part * bytes_max
            ):
                return []
            rich = [share for share in tier.ring if share is not mine]
            per_row, per_byte = rows_max / weights, bytes_max / weights
            rows_free += int(sum([max(0.0, share.rows - per_row * share.weight) for share in rich]))
            bytes_free += int(sum([max(0.0, share.bytes - per_byte * share.weight) for share in rich]))
            if rows_free < rows_over or bytes_free < bytes_over:
                return []
        gone: list[Waiter] = []
        while rows_over > 0 or bytes_over > 0:
            victim = self._victim(lower, rich, by_rows=rows_over > 0)
            if victim is None:
                break
            self.leave(victim)
            gone.append(victim)
            rows_over -= victim.rows
            bytes_over -= victim.size
        return gone

    def _victim(self, lower: list[Share], rich: list[Share], *, by_rows: bool) -> Waiter | None:
        """The newest request of whom has most for its weight: of the lowest priority there is, or of `rich`."""
        while lower and not lower[0].rows:
            del lower[0]
        shares = [share for share in lower if share.tier is lower[0].tier] if lower else rich
        shares = [share for share in shares if share.rows]
        if not shares:
            return None
        if by_rows:
            share = max(shares, key=lambda one: one.rows / one.weight)
            return max(share.lines, key=lambda line: line.rows).last()
        share = max(shares, key=lambda one: one.bytes / one.weight)
        return max(share.lines, key=lambda line: line.bytes).last()

    # -- who waits before a newcomer

    def ahead(self, queue: Queue, tenant: str, priority: Priority, rows: int, deadline_s: float) -> float:
        """About how many rows will leave before the last of a newcomer's `rows`, its own included."""
        tier = self.tiers[priority]
        before = float(sum([share.rows for higher in self.tiers[:priority] for share in higher.ring]))
        share = tier.share(tenant)
        own = rows + queue.line(tenant).ahead(deadline_s)
        own += sum([line.rows for line in share.lines if line.queue is not queue])
        per_weight = own / share.weight
        others = [min(float(one.rows), per_weight * one.weight) for one in tier.ring if one is not share]
        return before + own + sum(others)

    def overtaken(self, queue: Queue, tenant: str, deadline_s: float) -> float:
        """The latest deadline of those whom a newcomer with that deadline would overtake; never, where it overtakes
        nobody."""
        line = queue.line(tenant)
        return line.latest_s if deadline_s < line.latest_s - MATTERS_S else inf
