"""One page for whoever is woken at night: what waits, what runs, what is wrong, and what went wrong last.

It is bounded, made in a millisecond or two, and read by people: names say what they are, times are in the unit that
they end with.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from services.batcher.engines.counters import Depth
from services.batcher.engines.engine import Engine
from services.batcher.engines.placement import PlaceView
from services.batcher.telemetry.policy_families import shown

LANES_MAX = 30
"""The busiest versions are shown; of the rest only how many there are."""
PLACES_MAX = 10


class NightView:
    """Parts of the page by their names, in the order in which they are shown."""

    def __init__(self, parts: Mapping[str, Callable[[], object]]) -> None:
        self._parts = parts

    def page(self) -> dict[str, object]:
        """The page as of now, fit for JSON."""
        return {name: part() for name, part in self._parts.items()}


def engine_part(engine: Engine) -> dict[str, object]:
    """Of the whole engine."""
    return {"input_bytes": engine.bytes_held, "shapes": engine.groups, "since_start": asdict(engine.counters)}


def lanes_part(engine: Engine, now_s: float) -> dict[str, object]:
    """Of each version that has requests, the busiest first, then those with a backend that is not up."""
    learned, holds = engine.learned(), engine.holds()
    views = {key: placement.views(now_s) for key, placement in engine.placements().items()}

    def order(item: tuple[tuple[str, str], Depth]) -> tuple[int, int, tuple[str, str]]:
        key, depth = item
        troubled = sum([view.state != "up" for view in views.get(key, ())])
        return (-(depth.rows_waiting + depth.rows_in_flight), -troubled, key)

    lanes = sorted(engine.depths().items(), key=order)
    lines = [
        {
            "model": model,
            "version": version,
            **asdict(depth),
            **({"not_loaded": holds[model, version]} if (model, version) in holds else {}),
            "learned": shown(learned[model, version]),
            "backends": [_place(view) for view in views.get((model, version), ())[:PLACES_MAX]],
        }
        for (model, version), depth in lanes[:LANES_MAX]
    ]
    return {"shown": lines, "left_out": max(0, len(lanes) - LANES_MAX)}


def _place(view: PlaceView) -> dict[str, object]:
    return {
        "backend": view.backend_id,
        "state": view.state,
        "why_not": view.why_not,
        "batches": view.batches,
        "slots": view.slots,
        "usual_ms": round(view.latency_s * 1000, 3),
        "expected_ms": round(view.expected_s * 1000, 3),
        "ejections": view.ejections,
    }
