"""A group whose requests differ in size: they are filled up when they leave, and cut when they are back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from services.batcher.domain.padding import PaddingPlan
from services.batcher.domain.places import Place
from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.shape import InputShape
from services.batcher.engines.group import Group
from services.batcher.engines.servers import server_of
from services.batcher.ports import Exchange, PreparedCall

if TYPE_CHECKING:
    from services.batcher.engines.flight import Flight
    from services.batcher.engines.lane import Lane

_SHAPES_MAX = 256
"""Calls that are remembered: one for each place and each size that batches were filled up to."""


class PaddedGroup(Group):
    """A group of one bucket of sizes."""

    __slots__ = ("_by_size", "_plan")

    padded = True

    def __init__(self, lane: "Lane", plan: PaddingPlan, *, priority: Priority) -> None:
        super().__init__(lane, plan.key, plan.shape, priority=priority)
        self._plan = plan
        self.row_bytes = plan.row_bytes
        self.rows_max = plan.rows_max
        self._by_size: dict[tuple[Place, tuple[InputShape, ...]], PreparedCall] = {}

    def send(self, place: Place, members: Sequence[Waiter], rows: int, flight: "Flight") -> Exchange:
        """Sends the members' rows, all of one size."""
        batch = self._plan.pad(members, rows)
        flight.fill = batch.fill
        key = (place, batch.inputs)
        call = self._by_size.get(key)
        if call is None:
            shape = replace(self.shape, inputs=batch.inputs)
            call = server_of(place).client.prepare(shape, backend=place.backend)
            if len(self._by_size) >= _SHAPES_MAX:
                self._by_size.clear()
            self._by_size[key] = call
        return call.send(rows, batch.sizes, batch.buffers, flight)

    def results(self, outputs: Sequence[Tensor], flight: "Flight") -> list[InferResult]:
        """Each member's rows, in its own size. Raises RowsError."""
        results = super().results(outputs, flight)
        if flight.fill is not None:
            self._plan.trim(results, flight.fill)
        return results
