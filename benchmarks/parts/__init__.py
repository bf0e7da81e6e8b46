"""The parts of the benchmark: each measures one thing and judges it."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from benchmarks.parts import adaptive, closed, one, openloop, rows32, soak, telemetry
from benchmarks.report import PartReport
from benchmarks.stage import Stage

Part = Callable[[Stage], Awaitable[PartReport]]
PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "closed": closed.measure,
        "one": one.measure,
        "rows32": rows32.measure,
        "open": openloop.measure,
        "adaptive": adaptive.measure,
        "telemetry": telemetry.measure,
        "soak": soak.measure,
    }
)
"""By the name that `--part` takes, in the order in which they run."""
BY_DEFAULT = tuple(name for name in PARTS if name != "soak")
"""What runs where nothing is asked for: the soak takes as long as all the others."""
