"""Where a batch goes: the place that should finish it first. Pure but for the figures that each place carries."""

from collections.abc import Sequence
from math import inf

from services.batcher.domain.serving import Backend

_WEIGHT = 0.2
"""Of the newest batch in the moving averages: about the last ten count."""
_SLOTS_MAX = 64


class ServerState:
    """A model server, shared by all versions that it runs."""

    __slots__ = ("address", "up")

    def __init__(self, address: str) -> None:
        self.address = address
        self.up = True
        """False from a broken connection until it answers again."""


class Place:
    """One version on one server, with what is known of how it does there."""

    __slots__ = (
        "again_s",
        "backend",
        "capacity",
        "failures",
        "in_flight",
        "latency_s",
        "rows_mean",
        "rows_out",
        "server",
        "slots",
    )

    def __init__(self, backend: Backend, server: ServerState, *, in_flight_per_backend: int) -> None:
        self.backend = backend
        self.server = server
        self.in_flight = 0
        self.rows_out = 0
        self.latency_s = 0.0
        """Moving average of a batch's time; 0 until the first one."""
        self.rows_mean = 1.0
        self.failures = 0
        """Failures in a row that say that the model cannot be run there now."""
        self.again_s = -inf
        """Not to be tried before."""
        self.resize(backend, in_flight_per_backend=in_flight_per_backend)

    def resize(self, backend: Backend, *, in_flight_per_backend: int) -> None:
        """Takes over a changed capacity."""
        self.backend = backend
        self.capacity = max(backend.capacity, 0.01)
        self.slots = min(_SLOTS_MAX, max(1, round(in_flight_per_backend * self.capacity)))

    def usable(self, now_s: float) -> bool:
        """Whether it may be tried."""
        return self.server.up and self.again_s <= now_s

    def has_room(self, now_s: float, *, reserve: int = 0) -> bool:
        """Whether it may get one more batch while `reserve` slots stay free. After a failure, one batch tries alone."""
        slots = max(1, self.slots - reserve) if not self.failures else 1
        return self.in_flight < slots and self.server.up and self.again_s <= now_s

    def expected_s(self, rows: int) -> float:
        """When it would have finished `rows` more rows: the work before them at its pace, then a batch's own time."""
        return self.latency_s * (1.0 + (self.rows_out + rows) / (self.rows_mean * self.capacity))

    def departed(self, rows: int) -> None:
        """A batch goes there."""
        self.in_flight += 1
        self.rows_out += rows

    def left(self, rows: int) -> None:
        """A batch is no longer there."""
        self.in_flight -= 1
        self.rows_out -= rows

    def observe(self, *, rows: int, seconds: float) -> None:
        """A batch took that long."""
        if self.latency_s:
            self.latency_s += _WEIGHT * (seconds - self.latency_s)
            self.rows_mean += _WEIGHT * (rows - self.rows_mean)
        else:
            self.latency_s, self.rows_mean = seconds, float(max(1, rows))

    def answered(self) -> None:
        """It runs the model."""
        self.failures = 0
        self.again_s = -inf

    def rest(self, now_s: float, *, delay_min_s: float, delay_max_s: float) -> None:
        """It cannot run the model now; try it again after a pause that doubles with each failure in a row."""
        if self.again_s > now_s:
            return
        self.again_s = now_s + min(delay_max_s, delay_min_s * 2 ** min(self.failures, 16))
        self.failures += 1


def choose(places: Sequence[Place], rows: int, now_s: float, *, reserve: int = 0) -> Place | None:
    """The place with room that should finish `rows` rows first; None where none has room. One that never ran is tried
    first, so that it gets a figure."""
    if len(places) == 1:
        only = places[0]
        return only if only.has_room(now_s, reserve=reserve) else None
    best: Place | None = None
    best_key = (inf, inf)
    for place in places:
        if place.has_room(now_s, reserve=reserve):
            key = (place.expected_s(rows), place.rows_out / place.capacity)
            if key < best_key:
                best, best_key = place, key
    return best
