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
    (Kuczura 1973), given that half of the time is burst. So a short run has neither more load nor higher peaks.
    """
    rng = np.random.default_rng(seed)
    cycles = max(1, round(seconds / (2 * BURST_S)))
    # Exponential lengths, given their sum, are a flat Dirichlet's shares of it.
    bursts_s, silences_s = (rng.dirichlet(np.ones(cycles)) * seconds / 2 for _ in range(2))
    ends_s = np.cumsum(bursts_s + silences_s)
    begins_s = ends_s - bursts_s - silences_s
    return np.concatenate(
        [
            _poisson(2 * rate, begin_s, begin_s + burst_s, rng)
            for begin_s, burst_s in zip(begins_s, bursts_s, strict=True)
        ]
    )


def perfect_latency_s(times: Times, per_s: float) -> Times:
    """How long each request takes at a server that answers `per_s` requests a second in order and does nothing else:
    Lindley's recursion (1952). No server of that capacity is quicker."""
    each = np.arange(len(times)) / per_s
    return np.maximum.accumulate(times - each) + each + 1 / per_s - times


def _poisson(rate: float, begin_s: float, end_s: float, rng: np.random.Generator) -> Times:
    """Given their number, the points of a Poisson process are uniform."""
    count = rng.poisson(rate * (end_s - begin_s))
    return np.sort(rng.uniform(begin_s, end_s, count))
