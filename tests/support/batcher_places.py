"""Places without an engine, for tests of the choice between them."""

from services.batcher.domain.places import Place, ServerState
from services.batcher.domain.serving import Backend


def place(name: str, *, capacity: float = 1.0, latency_s: float = 0.0, rows: int = 8, slots: int = 2) -> Place:
    """A place on a server of its own; where `latency_s` is given, one batch of `rows` rows took that long at 0 s."""
    made = Place(Backend(name, name, "", "m", capacity), ServerState(name), in_flight_per_backend=slots)
    if latency_s:
        made.observe(rows=rows, seconds=latency_s, now_s=0.0)
    return made
