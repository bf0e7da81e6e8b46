"""Requests that wait for their batch, first come, first served, within one group.

A caller that gives up leaves at once as far as every count is concerned; the place it leaves in the line is cleared
when the line reaches it, or earlier when such places are many. So a storm of cancellations costs no memory.
"""

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.request import InferResult, Tensor

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

    __slots__ = ("arrived_s", "attempts", "caller", "crashes", "deadline_s", "inputs", "line", "rows", "trail")

    def __init__(
        self,
        caller: Caller,
        inputs: tuple[Tensor, ...],
        rows: int,
        *,
        arrived_s: float,
        deadline_s: float,
        trail: list[BatchRun] | None = None,
    ) -> None:
        self.caller = caller
        self.inputs = inputs
        self.rows = rows
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.attempts = 0
        """How often it may have reached a model without an answer coming back."""
        self.crashes = 0
        """How often the model died over it."""
        self.line: Line | None = None
        """The line it stands in; None once it left."""
        self.trail = trail
        """Where the batches that it was in are noted; None where nobody traces it."""


class Line:
    """The waiting requests of one group."""

    __slots__ = ("_gone", "_items", "rows")

    def __init__(self) -> None:
        self._items: deque[Waiter] = deque()
        self._gone = 0
        self.rows = 0
        """Rows that wait."""

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._items) - self._gone

    def __iter__(self) -> Iterator[Waiter]:
        """Who waits, oldest first."""
        return (waiter for waiter in self._items if waiter.line is self)

    @property
    def places(self) -> int:
        """Places in memory, empty ones included."""
        return len(self._items)

    def push(self, waiter: Waiter) -> None:
        """Adds one at the end."""
        waiter.line = self
        self._items.append(waiter)
        self.rows += waiter.rows

    def leave(self, waiter: Waiter) -> None:
        """Takes one out, wherever it stands; nothing where it is not in this line."""
        if waiter.line is not self:
            return
        waiter.line = None
        self.rows -= waiter.rows
        self._gone += 1
        if self._gone > _GONE_MIN and self._gone * 2 > len(self._items):
            self._items = deque(one for one in self._items if one.line is self)
            self._gone = 0

    def oldest_s(self) -> float:
        """When the one at the front arrived. The line must not be empty."""
        items = self._items
        while items[0].line is not self:
            items.popleft()
            self._gone -= 1
        return items[0].arrived_s

    def take(self, *, rows_max: int, requests_max: int, now_s: float) -> tuple[list[Waiter], list[Waiter]]:
        """Takes from the front what fits into one batch, at least one. Returns (batch, those whose deadline passed)."""
        batch: list[Waiter] = []
        expired: list[Waiter] = []
        items = self._items
        rows = 0
        while items:
            waiter = items[0]
            if waiter.line is not self:
                items.popleft()
                self._gone -= 1
                continue
            if waiter.deadline_s <= now_s:
                expired.append(waiter)
                self.rows -= waiter.rows
            else:
                after = rows + waiter.rows
                if batch and (after > rows_max or len(batch) >= requests_max):
                    break
                rows = after
                batch.append(waiter)
            items.popleft()
            waiter.line = None
        self.rows -= rows
        return batch, expired
