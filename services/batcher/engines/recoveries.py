"""The failed batches of a version, and what of them waits to be sent again."""

from collections import deque
from collections.abc import Callable, Iterator

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.queue import Waiter
from services.batcher.domain.recovery import NEVER_RAN, recover
from services.batcher.domain.retry import RetryBudget
from services.batcher.engines.flight import Flight
from services.batcher.engines.group import Group
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.servers import Servers, server_of
from services.batcher.engines.verdicts import Verdicts
from services.common.errors import MeshError

_LOST = (FailureKind.UNREACHABLE, FailureKind.LOST)


class Recoveries:
    """Batches to send again, before anything else, in this order."""

    def __init__(self, *, servers: Servers, options: EngineOptions, verdicts: Verdicts) -> None:
        self._servers = servers
        self._options = options
        self._verdicts = verdicts
        self.budget = RetryBudget()
        self.again: deque[tuple[Group, list[Waiter]]] = deque()

    def members(self) -> Iterator[Waiter]:
        """All who wait to be sent again; some may have been answered in the meantime."""
        return (member for _, members in self.again for member in members)

    def recover(self, flight: Flight, failure: BackendFailure, now_s: float) -> None:
        """A batch that has landed without answers: its members are to be tried again, or told."""
        kind = failure.kind
        place = flight.place
        options = self._options
        if kind in _LOST:
            self._servers.lost(server_of(place))
        if kind in NEVER_RAN or kind in (FailureKind.LOST, FailureKind.GARBLED):
            place.rest(now_s, delay_min_s=options.probe_delay_min_s, delay_max_s=options.probe_delay_max_s)
        members = [member for member in flight.members if not member.caller.done()]
        recovery = recover(kind, members, sent=len(flight.members), attempts_max=options.attempts_max)
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
