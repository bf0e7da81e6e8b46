"""The waiting requests of one tenant in one group: earliest deadline first where deadlines differ enough to matter,
first come, first served where they do not.

With one time limit for all, deadlines are in the order of arrival, and the line is a plain queue. Whoever has clearly
less time than somebody before it goes into a heap beside the queue, and the earlier of both fronts is next: O(1) for
the usual request and O(log n) for the urgent one.

A caller that gives up leaves at once as far as every count is concerned; the place it leaves in the line is cleared
when the line reaches it, or earlier when such places are many. So a storm of cancellations costs no memory.
"""

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Protocol

from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.request import InferResult, Tensor

if TYPE_CHECKING:
    from services.batcher.domain.fairness import Queue, Share

MATTERS_S = 0.005
"""Deadlines that differ by less are equal: the order of arrival decides."""
_GONE_MIN = 64
"""Fewer empty places than this are not worth clearing."""


class Caller(Protocol):
    """Where an answer goes: a future, or a part of a request that was split."""

    def done(self) -> bool:
        """Whether it was answered or has given up."""
        ...

    def set_result(self, result: InferResult, /) -> None:
        """Its rows."""
        ...

    def set_exception(self, exception: Exception, /) -> None:
        """Its error."""
        ...


class Waiter:
    """One request, or one part of a large one, from its arrival to its answer."""

    __slots__ = (
        "arrived_s",
        "attempts",
        "caller",
        "compute_s",
        "crashes",
        "deadline_s",
        "inputs",
        "line",
        "rows",
        "size",
        "trail",
    )

    def __init__(  # noqa: PLR0917 - keywords cost a dictionary for each request
        self,
        caller: Caller,
        inputs: tuple[Tensor, ...],
        rows: int,
        arrived_s: float,
        deadline_s: float,
        size: int = 0,
        trail: list[BatchRun] | None = None,
    ) -> None:
        self.caller = caller
        self.inputs = inputs
        self.rows = rows
        self.size = size
        """Bytes of its inputs."""
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.attempts = 0
        """How often it may have reached a model without an answer coming back."""
        self.crashes = 0
        """How often the model died over it."""
        self.compute_s = 0.0
        """Its share of batches that the model ran and that did not answer it."""
        self.line: Line | None = None
        """The line it stands in; None once it left."""
        self.trail = trail
        """Where the batches that it was in are noted; None where nobody traces it."""


class Line:
    """One tenant's requests in one group."""

    __slots__ = (
        "_gone",
        "_items",
        "_latest_s",
        "_pushed",
        "_urgent",
        "bytes",
        "credit",
        "listed",
        "queue",
        "rows",
        "share",
        "tenant",
    )

    def __init__(self, queue: "Queue", share: "Share") -> None:
        self.queue = queue
        self.share = share
        self.tenant = share.tenant
        self.rows = 0
        """Rows that wait; 0 exactly where nobody does."""
        self.bytes = 0
        """Input bytes that wait."""
        self.credit = 0.0
        """Rows that it may still put into its queue's batches before the next tenant's turn."""
        self.listed = False
        """Whether it takes turns."""
        self._items: deque[Waiter] = deque()
        self._urgent: list[tuple[float, int, Waiter]] = []
        self._latest_s = -inf
        """The latest deadline in `_items`, where each is later than all before it, give or take what matters."""
        self._pushed = 0
        self._gone = 0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._items) + len(self._urgent) - self._gone

    def __iter__(self) -> Iterator[Waiter]:
        """Who waits, in no particular order."""
        yield from (waiter for waiter in self._items if waiter.line is self)
        yield from (waiter for _, _, waiter in self._urgent if waiter.line is self)

    @property
    def places(self) -> int:
        """Places in memory, empty ones included."""
        return len(self._items) + len(self._urgent)

    def push(self, waiter: Waiter) -> None:
        """Adds one."""
        waiter.line = self
        self.rows += waiter.rows
        self.bytes += waiter.size
        deadline_s = waiter.deadline_s
        latest_s = self._latest_s
        if deadline_s >= latest_s - MATTERS_S:
            if deadline_s > latest_s:
                self._latest_s = deadline_s
            self._items.append(waiter)
        else:
            self._pushed += 1
            heappush(self._urgent, (deadline_s, self._pushed, waiter))

    def leave(self, waiter: Waiter) -> None:
        """Takes out one that stands in this line, wherever it is."""
        waiter.line = None
        self.rows -= waiter.rows
        self.bytes -= waiter.size
        self._gone += 1
        if self._gone > _GONE_MIN and self._gone * 2 > len(self._items) + len(self._urgent):
            self._items = deque(one for one in self._items if one.line is self)
            self._urgent = [entry for entry in self._urgent if entry[2].line is self]
            heapify(self._urgent)
            self._gone = 0
        if not self.rows:
            self._items.clear()
            self._urgent.clear()
            self._gone = 0
            self._latest_s = -inf

    def oldest_s(self) -> float:
        """When the first of those who wait arrived. Cheap where nobody is urgent. The line must not be empty."""
        front = self._in_order()
        oldest_s = front.arrived_s if front is not None else inf
        if self._urgent:
            oldest_s = min(oldest_s, *[entry[2].arrived_s for entry in self._urgent if entry[2].line is self], inf)
        return oldest_s

    def due_s(self) -> float:
        """The first deadline, give or take what matters; never, where nobody waits."""
        front = self._front()
        return front.deadline_s if front is not None else inf

    def last(self) -> Waiter | None:
        """The newest of those who are not urgent; only where there is none, one of the urgent with much time."""
        items, urgent = self._items, self._urgent
        while items:
            if items[-1].line is self:
                return items[-1]
            items.pop()
            self._gone -= 1
        while urgent:
            # The end of a heap is one of its leaves: without it the rest is still a heap.
            if urgent[-1][2].line is self:
                return urgent[-1][2]
            urgent.pop()
            self._gone -= 1
        return None

    def ahead(self, deadline_s: float) -> float:
        """About how many rows leave before one with that deadline would: all but those with clearly later deadlines,
        whose number is judged by assuming that deadlines are spread evenly."""
        front = self._in_order()
        if front is None or deadline_s >= self._latest_s - MATTERS_S:
            return float(self.rows)
        first_s, last_s = front.deadline_s, self._latest_s
        before = max(0.0, deadline_s - first_s) / (last_s - first_s) if last_s > first_s else 0.0
        waiting = len(self)
        urgent = min(len(self._urgent), waiting)
        return self.rows * (urgent + before * (waiting - urgent)) / waiting

    @property
    def latest_s(self) -> float:
        """The latest deadline of those who are not urgent."""
        return self._latest_s

    def expire(self, now_s: float, *, at_most: int) -> list[Waiter]:
        """Takes out those whose deadlines have passed."""
        expired: list[Waiter] = []
        while len(expired) < at_most:
            front = self._front()
            if front is None or front.deadline_s > now_s:
                break
            self._pop(front)
            self.rows -= front.rows
            self.bytes -= front.size
            expired.append(front)
        if not self.rows:
            self._latest_s = -inf
        return expired

    def take(
        self,
        batch: list[Waiter],
        expired: list[Waiter],
        *,
        rows_left: int,
        requests_max: float,
        late_s: float,
        credit: float,
    ) -> int:
        """Moves from the front into `batch` what fits into it while `credit` rows were not reached yet; the first one
        of a batch always fits. Those with a deadline up to `late_s` go to `expired`. Returns the rows for the batch:
        where they are below `credit` and requests are left, the batch is full."""
        items, urgent = self._items, self._urgent
        rows = size = 0
        while rows < credit:
            if urgent:
                front = self._front()
                if front is None:
                    break
                waiter = front
            elif items:
                waiter = items[0]
                if waiter.line is not self:
                    items.popleft()
                    self._gone -= 1
                    continue
            else:
                break
            if waiter.deadline_s <= late_s:
                expired.append(waiter)
                self.rows -= waiter.rows
            else:
                after = rows + waiter.rows
                if batch and (after > rows_left or len(batch) >= requests_max):
                    break
                rows = after
                batch.append(waiter)
            size += waiter.size
            if urgent:
                self._pop(waiter)
            else:
                items.popleft()
                waiter.line = None
        self.rows -= rows
        self.bytes -= size
        if not self.rows:
            self._latest_s = -inf
        return rows

    def _front(self) -> Waiter | None:
        urgent = self._urgent
        front = self._in_order()
        while urgent and urgent[0][2].line is not self:
            heappop(urgent)
            self._gone -= 1
        if urgent and (front is None or urgent[0][0] < front.deadline_s):
            return urgent[0][2]
        return front

    def _in_order(self) -> Waiter | None:
        items = self._items
        while items:
            if items[0].line is self:
                return items[0]
            items.popleft()
            self._gone -= 1
        return None

    def _pop(self, front: Waiter) -> None:
        """Removes what `_front` returned."""
        if self._urgent and self._urgent[0][2] is front:
            heappop(self._urgent)
        else:
            self._items.popleft()
        front.line = None
