"""Requests of one shape and priority: the only ones that may share a batch."""

from typing import TYPE_CHECKING

from services.batcher.domain.fairness import Queue
from services.batcher.domain.places import Place
from services.batcher.domain.priority import Priority
from services.batcher.domain.shape import CallShape, GroupKey
from services.batcher.engines.servers import server_of
from services.batcher.ports import PreparedCall

if TYPE_CHECKING:
    from services.batcher.engines.lane import Lane


_PREPARED_MAX = 64
"""Calls that a group remembers: one for each place."""


class Group(Queue):
    """The queue of one shape, and the calls that are prepared for it."""

    __slots__ = ("_prepared", "key", "lane", "priority", "row_bytes", "shape")

    def __init__(self, lane: "Lane", key: GroupKey, shape: CallShape, *, priority: Priority) -> None:
        super().__init__(lane.backlog.tiers[priority])
        self.lane = lane
        self.key = key
        self.shape = shape
        self.priority = priority
        self.row_bytes = tuple(one.row_bytes for one in shape.inputs)
        self._prepared: dict[Place, PreparedCall] = {}

    def prepared(self, place: Place) -> PreparedCall:
        """The call of this shape at that place."""
        call = self._prepared.get(place)
        if call is None:
            client = server_of(place).client
            call = client.prepare(self.shape, server_model_name=place.backend.server_model_name)
            if len(self._prepared) >= _PREPARED_MAX:
                # Those of places that have left are never asked for again; the others are soon made anew.
                self._prepared.clear()
            self._prepared[place] = call
        return call


def group_of(queue: Queue) -> Group:
    """The group whose queue the engine made."""
    assert isinstance(queue, Group)
    return queue
