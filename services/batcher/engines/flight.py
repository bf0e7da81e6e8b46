"""A batch on its way: it knows whose rows are where in it, and hands them out when the answer comes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.batcher.domain.batch_run import BatchContext, BatchRun
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.padding import Fill
from services.batcher.domain.places import Place
from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import Tensor
from services.batcher.domain.rows import RowsError
from services.batcher.engines.group import Group
from services.batcher.ports import Exchange

if TYPE_CHECKING:
    from services.batcher.engines.lane import Lane

_FAILURE_LENGTH_MAX = 300
_RAN = frozenset({FailureKind.MODEL, FailureKind.CRASHED})
_ANSWERED = frozenset({FailureKind.MODEL, FailureKind.PROTOCOL})
"""The model ran, and ended by itself: what it took is its callers', who are tried again. A crash is the platform's."""


class Flight:
    """A `BatchReceiver`."""

    __slots__ = (
        "_lane",
        "context",
        "exchange",
        "fill",
        "group",
        "latest_s",
        "members",
        "overdue_s",
        "place",
        "rows",
        "sent_s",
    )

    def __init__(  # noqa: PLR0917 - keywords cost a dictionary for each batch
        self,
        lane: "Lane",
        group: Group,
        place: Place,
        members: list[Waiter],
        rows: int,
        sent_s: float,
        latest_s: float,
        overdue_s: float,
    ) -> None:
        self._lane = lane
        self.group = group
        self.place = place
        self.members = members
        self.rows = rows
        self.sent_s = sent_s
        self.latest_s = latest_s
        """When nobody waits for it any longer."""
        self.overdue_s = overdue_s
        """When it has taken so long that its server is asked whether it is there at all."""
        self.context: BatchContext | None = None
        """What it is called in traces; None where none of its members is traced."""
        self.exchange: Exchange | None = None
        """None once it has landed: whatever is said of it after that is ignored, or its place would be free twice."""
        self.fill: Fill | None = None
        """How far its rows were filled up, where they differ in size."""

    @property
    def traceparent(self) -> bytes:
        """What the model server is told of its trace."""
        return self.context.traceparent if self.context is not None else b""

    def answered(self, outputs: Sequence[Tensor]) -> None:
        """Sends what waits, then hands out the rows, so that the backend works while we do."""
        if self.exchange is None:
            return
        lane, members = self._lane, self.members
        now_s = lane.now_s()
        lane.landed(self, now_s, ran=True)
        lane.pump_now(now_s)
        try:
            results = self.group.results(outputs, self)
        except RowsError as error:
            self._charge(now_s)
            lane.recover(self, BackendFailure(FailureKind.PROTOCOL, str(error)))
            return
        except Exception as error:
            lane.broken(members, error)
            return
        run = lane.delivered(self, now_s)
        if run is not None:
            for member, result in zip(members, results, strict=True):
                result.batch = run
                if member.trail is not None:
                    member.trail.append(run)
        row_s = (now_s - self.sent_s) / self.rows
        for member, result in zip(members, results, strict=True):
            caller = member.caller
            if not caller.done():
                result.compute_s = member.compute_s + row_s * member.rows
                caller.set_result(result)

    def run(self, now_s: float, failure: str = "") -> BatchRun:
        """What its members remember of it."""
        members, sent_s = self.members, self.sent_s
        oldest_s = sent_s - members[0].arrived_s
        backend_id = self.place.backend.backend_id
        cut = failure[:_FAILURE_LENGTH_MAX]
        return BatchRun(sent_s, now_s, oldest_s, self.rows, len(members), backend_id, cut, self.context)

    def failed(self, failure: BackendFailure) -> None:
        """The lane decides who is tried again."""
        if self.exchange is None:
            return
        now_s = self._lane.now_s()
        if failure.kind in _ANSWERED:
            self._charge(now_s)
        self._lane.landed(self, now_s, ran=failure.kind in _RAN)
        self._lane.recover(self, failure)

    def _charge(self, now_s: float) -> None:
        """The model ran in vain for its members, who are tried again."""
        row_s = (now_s - self.sent_s) / self.rows
        for member in self.members:
            member.compute_s += row_s * member.rows

    def abort(self) -> None:
        """Nobody wants the answer any more."""
        if self.exchange is not None:
            self.exchange.abort()
