"""A percentile with something beside the one without it, over all turns of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.open_loop import Outcome

_RESAMPLES = 2000
_SEED = 1
Latencies = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long it takes, and where that lies in 95 of 100 cases."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"x {self.value:.2f} (95 %: {self.low:.2f} to {self.high:.2f})"


def pooled_ratio(without: Sequence[Outcome], beside: Sequence[Outcome], *, percentile: float) -> Ratio:
    """Of the latencies of all turns together, `without` and `beside` in pairs; what was not answered counts as never.

    The p99 of one turn rests on some ten requests and scatters by a third on a shared machine; all together say more.
    What it may be by chance is told by the bootstrap over pairs of turns, which keeps together what one disturbance of
    the machine met (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).
    """
    pairs = [(one.waited_s, other.waited_s) for one, other in zip(without, beside, strict=True)]
    rng = np.random.default_rng(_SEED)
    draws = rng.integers(0, len(pairs), (_RESAMPLES, len(pairs)))
    drawn = [_ratio([pairs[at] for at in draw], percentile) for draw in draws]
    low, high = np.percentile(drawn, [2.5, 97.5], method="nearest")
    return Ratio(_ratio(pairs, percentile), float(low), float(high))


def _ratio(pairs: Sequence[tuple[Latencies, Latencies]], percentile: float) -> float:
    first, second = (np.concatenate([pair[which] for pair in pairs]) for which in (0, 1))
    return float(np.percentile(second, percentile, method="higher") / np.percentile(first, percentile, method="higher"))
