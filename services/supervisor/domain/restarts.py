"""Whether a part that died is started again, and after how long."""

from collections.abc import Sequence
from dataclasses import dataclass

DELAYS_S = (0.0, 0.2, 0.5, 1.0, 2.0)
"""The wait before each restart within the window: a first death is mended at once, further ones ever slower."""
WINDOW_S = 60.0
"""Deaths longer ago than this are forgotten."""
PATIENT_DELAY_S = 10.0
"""The wait where those are used up and the mesh lives on without the part."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It died `deaths` times within the window: starting it again would only hide that."""

    deaths: int


def decide_restart(deaths_s: Sequence[float], *, vital: bool = True) -> Restart | GiveUp:
    """What to do after the last of `deaths_s`, the moments (monotonic seconds, ascending) at which the part died.
    `vital`: without the part the mesh is of no use; else it is tried again for ever."""
    last_s = deaths_s[-1]
    recent = sum(1 for death_s in deaths_s if last_s - death_s < WINDOW_S)
    if recent > len(DELAYS_S):
        return GiveUp(deaths=recent) if vital else Restart(delay_s=PATIENT_DELAY_S)
    return Restart(delay_s=DELAYS_S[recent - 1])
