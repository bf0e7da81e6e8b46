"""The failed batches of a version, and what of them waits to be sent again."""

from collections import deque
from collections.abc import Callable, Iterator

from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import Waiter
from services.batcher.domain.recovery import recover
from services.batcher.domain.retry import RetryBudget
from services.batcher.engines.flight import Flight
from services.batcher.engines.group import Group
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.placement import Placement
from services.batcher.engines.verdicts import Verdicts
from services.common.errors import MeshError

Batch = tuple[Group, list[Waiter]]
"""Who is sent again together."""


class Recoveries:
    """Batches to send again, before anything else of their priority, in this order."""

    def __init__(self, *, placement: Placement, options: EngineOptions, verdicts: Verdicts) -> None:
        self._placement = placement
        self._options = options
        self._verdicts = verdicts
        self.budget = RetryBudget()
        self.again: deque[Batch] = deque()
        self.later: deque[Batch] = deque()
        """Those of batch jobs, which wait until something is idle."""
        self.copies: deque[Batch] = deque()
        """Those of shadow copies, which wait for the same."""
        self.rows = 0
        """Rows of all."""

    def members(self) -> Iterator[Waiter]:
        """All who wait to be sent again; some may have been answered in the meantime."""
        return (member for _, members in (*self.again, *self.copies, *self.later) for member in members)

    @property
    def rows_next(self) -> int:
        """Rows of the first of `again`."""
        return _rows(self.again[0])

    def next(self) -> Batch:
        """Takes the first of `again`."""
        return self._taken(self.again)

    def next_later(self) -> Batch:
        """Takes the first of `later`."""
        return self._taken(self.later)

    def next_copies(self) -> Batch:
        """Takes the first of `copies`."""
        return self._taken(self.copies)

    def recover(self, flight: Flight, failure: BackendFailure, now_s: float) -> None:
        """A batch that has landed without answers: its members are to be tried again, or told."""
        place = flight.place
        doubted = self._placement.failed(place, failure, sent_s=flight.sent_s, now_s=now_s)
        members = [member for member in flight.members if not member.caller.done()]
        if doubted and members and self.budget.spend():
            self._placement.confirm_elsewhere(place, now_s)
            self._put([(flight.group, members)])
            return
        # A copy is not worth a second try of what may have broken the server.
        attempts_max = 1 if flight.group.priority is Priority.SHADOW else self._options.attempts_max
        recovery = recover(failure.kind, members, sent=len(flight.members), attempts_max=attempts_max)
        if recovery.costs_budget and recovery.again and not self.budget.spend():
            recovery.given_up += [member for batch in recovery.again for member in batch]
            recovery.again = []
        for member in recovery.given_up:
            self._verdicts.failed(member, failure)
        again = recovery.again
        if flight.group.priority is Priority.SHADOW:
            # They may seldom leave at all: alone, each that leaves says something about the version.
            again = [[member] for batch in again for member in batch]
        self._put([(flight.group, batch) for batch in again])

    @property
    def wanted(self) -> bool:
        """Whether there is any that is not a shadow copy."""
        return bool(self.again or self.later)

    def fail(self, error: Callable[[], MeshError]) -> None:
        """Answers all with an error."""
        for line in (self.again, self.copies, self.later):
            self._fail(line, error)

    def fail_copies(self, error: Callable[[], MeshError]) -> None:
        """Answers the shadow copies with an error."""
        self._fail(self.copies, error)

    def _fail(self, line: deque[Batch], error: Callable[[], MeshError]) -> None:
        while line:
            for member in self._taken(line)[1]:
                self._verdicts.fail(member, error())

    def _put(self, batches: list[Batch]) -> None:
        """Of one group."""
        for batch in reversed(batches):
            self._line(batch[0].priority).appendleft(batch)
            self.rows += _rows(batch)

    def _line(self, priority: Priority) -> deque[Batch]:
        if not priority.idle_only:
            return self.again
        return self.copies if priority is Priority.SHADOW else self.later

    def _taken(self, line: deque[Batch]) -> Batch:
        batch = line.popleft()
        self.rows -= _rows(batch)
        return batch


def _rows(batch: Batch) -> int:
    return sum([member.rows for member in batch[1]])
