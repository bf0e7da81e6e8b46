"""Requests of one shape and priority: the only ones that may share a batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.batcher.domain.fairness import Queue
from services.batcher.domain.places import Place
from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.rows import check_outputs, gather, split_outputs
from services.batcher.domain.shape import CallShape, GroupKey
from services.batcher.engines.servers import server_of
from services.batcher.ports import Exchange, PreparedCall

if TYPE_CHECKING:
    from services.batcher.engines.flight import Flight
    from services.batcher.engines.lane import Lane


_ROWS_MAX = 65_536
_PREPARED_MAX = 64
"""Calls that a group remembers: one for each place."""


class Group(Queue):
    """The queue of one shape, and the calls that are prepared for it."""

    __slots__ = (
        "_prepared",
        "idle_only",
        "key",
        "lane",
        "policy",
        "priority",
        "pump_at",
        "row_bytes",
        "rows_max",
        "shape",
    )

    padded = False
    """Whether its requests differ in size."""

    def __init__(self, lane: "Lane", key: GroupKey, shape: CallShape, *, priority: Priority) -> None:
        super().__init__(lane.backlog.tiers[priority])
        self.lane = lane
        self.key = key
        self.shape = shape
        self.policy = lane.policy.group()
        self.priority = priority
        self.idle_only = priority.idle_only
        """Whether its batches get only what is idle."""
        self.pump_at = 0
        """While its requests are held back for more: with fewer rows in the lane's backlog nothing can have changed."""
        self.row_bytes = tuple(one.row_bytes for one in shape.inputs)
        self.rows_max = _ROWS_MAX
        """The most rows of a batch, whatever the version allows."""
        self._prepared: dict[Place, PreparedCall] = {}

    def send(self, place: Place, members: Sequence[Waiter], rows: int, flight: "Flight") -> Exchange:
        """Sends the members' rows."""
        buffers, sizes = gather(self.shape, members, rows)
        call = self._prepared.get(place) or self._prepare(place)
        return call.send(rows, sizes, buffers, flight)

    def results(self, outputs: Sequence[Tensor], flight: "Flight") -> list[InferResult]:
        """Each member's rows. Raises RowsError where the answer is not what the schema promises."""
        counts = [member.rows for member in flight.members]
        return split_outputs(check_outputs(self.shape, outputs, flight.rows), counts, flight.rows)

    def _prepare(self, place: Place) -> PreparedCall:
        """The call of this shape at that place, from now on."""
        call = server_of(place).client.prepare(self.shape, backend=place.backend)
        if len(self._prepared) >= _PREPARED_MAX:
            # Those of places that have left are never asked for again; the others are soon made anew.
            self._prepared.clear()
        self._prepared[place] = call
        return call


def group_of(queue: Queue) -> Group:
    """The group whose queue the engine made."""
    assert isinstance(queue, Group)
    return queue
