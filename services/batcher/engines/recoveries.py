"""The failed batches of a version, and what of them waits to be sent again."""

from collections import deque
from collections.abc import Callable, Iterator

from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.queue import Waiter
from services.batcher.domain.recovery import recover
from services.batcher.domain.retry import RetryBudget
from services.batcher.engines.flight import Flight
from services.batcher.engines.group import Group
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.placement import Placement
from services.batcher.engines.verdicts import Verdicts
from services.common.errors import MeshError


class Recoveries:
    """Batches to send again, before anything else, in this order."""

    def __init__(self, *, placement: Placement, options: EngineOptions, verdicts: Verdicts) -> None:
        self._placement = placement
        self._options = options
        self._verdicts = verdicts
        self.budget = RetryBudget()
        self.again: deque[tuple[Group, list[Waiter]]] = deque()

    def members(self) -> Iterator[Waiter]:
        """All who wait to be sent again; some may have been answered in the meantime."""
        return (member for _, members in self.again for member in members)

    def recover(self, flight: Flight, failure: BackendFailure, now_s: float) -> None:
        """A batch that has landed without answers: its members are to be tried again, or told."""
        place = flight.place
        doubted = self._placement.failed(place, failure, sent_s=flight.sent_s, now_s=now_s)
        members = [member for member in flight.members if not member.caller.done()]
        if doubted and members and self.budget.spend():
            self._placement.confirm_elsewhere(place, now_s)
            self.again.appendleft((flight.group, members))
            return
        attempts_max = self._options.attempts_max
        recovery = recover(failure.kind, members, sent=len(flight.members), attempts_max=attempts_max)
        if recovery.costs_budget and recovery.again and not self.budget.spend():
            recovery.given_up += [member for batch in recovery.again for member in batch]
            recovery.again = []
        for member in recovery.given_up:
            self._verdicts.failed(member, failure)
        self.again.extendleft((flight.group, batch) for batch in reversed(recovery.again))

    def fail(self, error: Callable[[], MeshError]) -> None:
        """Answers all with an error."""
        while self.again:
            for member in self.again.popleft()[1]:
                self._verdicts.fail(member, error())
