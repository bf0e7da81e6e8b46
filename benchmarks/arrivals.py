"""When requests arrive in an open loop: seconds from the start, ascending, the same for the same seed.

Nobody waits for an answer before the next request, as with many independent users; so a slow server meets a queue that
a closed loop would never show.
"""

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
BURST_S = 0.05
"""Mean length of a burst, and of the silence after it."""


def poisson(rate: float, seconds: float, *, seed: int) -> Times:
    """A Poisson process of `rate` requests a second: gaps are exponential."""
    return _poisson(rate, 0.0, seconds, np.random.default_rng(seed))


def bursty(rate: float, seconds: float, *, seed: int) -> Times:
    """Bursts at twice `rate`, silence between them, both of exponential length: an interrupted Poisson process
    (Kuczura 1973). The mean over a long time is `rate`; a short run is scaled to have it exactly in expectation.
    """
    rng = np.random.default_rng(seed)
    bursts: list[tuple[float, float]] = []
    at_s = 0.0
    while at_s < seconds:
        end_s = min(seconds, at_s + rng.exponential(BURST_S))
        bursts.append((at_s, end_s))
        at_s = end_s + rng.exponential(BURST_S)
    on_s = sum(end_s - begin_s for begin_s, end_s in bursts)
    peak = rate * seconds / on_s
    return np.concatenate([_poisson(peak, begin_s, end_s, rng) for begin_s, end_s in bursts])


def _poisson(rate: float, begin_s: float, end_s: float, rng: np.random.Generator) -> Times:
    """Given their number, the points of a Poisson process are uniform."""
    count = rng.poisson(rate * (end_s - begin_s))
    return np.sort(rng.uniform(begin_s, end_s, count))
