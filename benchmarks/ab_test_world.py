"""A/B tests played through by chance, thousands at once, and looked at all the time.

Two versions with equal shares. Shares are zeros and ones at a base rate; means are of exponentially distributed values,
as skewed as latencies are. The bounds are those of `services.router.domain`, over arrays of runs; a test holds them
against `results_of` on the same figures.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.router.domain.ab_results import BEST_AT, SAMPLES_MIN
from services.router.domain.sequential import Floats, mean_radius

Flags = NDArray[np.bool_]
ALPHA = 0.05
RATE = "rate"
MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Peeked:
    """How often a difference was found."""

    sequential: float
    """The share of tests in which it was, at any of the looks before the end."""
    fixed_horizon: float
    """The share in which it was at the planned end."""
    either: float
    """The share in which it was at any of these."""


@dataclass(slots=True)
class Side:
    """The samples of one version, in every run."""

    total: Floats
    squares: Floats
    count: int = 0

    @staticmethod
    def empty(runs: int) -> "Side":
        """Nothing yet."""
        return Side(np.zeros(runs), np.zeros(runs))

    def take(self, metric: str, level: float, more: int, random: np.random.Generator) -> None:
        """More samples: zeros and ones at the rate `level`, or values of mean 1 + `level` and deviation 1."""
        runs = len(self.total)
        self.count += more
        if metric == RATE:
            hits = random.binomial(more, level, runs)
            self.total += hits
            self.squares += hits
            return
        values = random.exponential(1.0, (runs, more)) + level
        self.total += values.sum(axis=1)
        self.squares += (values**2).sum(axis=1)

    @property
    def mean(self) -> Floats:
        """The means."""
        return self.total / self.count


def peeked(
    metric: str,
    effect: float,
    *,
    runs: int,
    seed: int,
    rate: float = 0.1,
    samples: int = 10_000,
    look_every: int = 100,
) -> Peeked:
    """Tests with `samples` on each side that are looked at after every `look_every` on each, once there are enough.
    `effect` is the difference of the rates, or of the means in standard deviations."""
    random = np.random.default_rng(seed)
    control, other = Side.empty(runs), Side.empty(runs)
    base = rate if metric == RATE else 0.0
    found = np.zeros(runs, dtype=np.bool_)
    for _ in range(samples // look_every):
        control.take(metric, base, look_every, random)
        other.take(metric, base + effect, look_every, random)
        if control.count >= SAMPLES_MIN:
            found |= significant_now(metric, control, other)
    at_end = significant_at_end(metric, control, other)
    return Peeked(float(np.mean(found)), float(np.mean(at_end)), float(np.mean(found | at_end)))


def significant_now(metric: str, control: Side, other: Side, *, alpha: float = ALPHA) -> Flags:
    """In which runs the interval that holds at all times excludes no difference."""
    error = np.sqrt(_spread(metric, control) / control.count + _spread(metric, other) / other.count)
    # The radius is proportional to the standard error.
    reach = mean_radius(1.0, control.count + other.count, alpha, best_at=BEST_AT) * error
    return np.asarray(np.abs(other.mean - control.mean) > reach)


def significant_at_end(metric: str, control: Side, other: Side) -> Flags:
    """In which runs the test for one look finds a difference; samples are so many that Welch's is a z-test."""
    if metric == RATE:
        pooled = (control.total + other.total) / (control.count + other.count)
        error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / control.count + 1.0 / other.count))
    else:
        error = np.sqrt(_spread(metric, control) / control.count + _spread(metric, other) / other.count)
    reach = float(special.ndtri(1.0 - ALPHA / 2.0))
    return np.asarray(np.abs(other.mean - control.mean) > reach * error)


def _spread(metric: str, side: Side) -> Floats:
    if metric == RATE:
        share = (side.total + 1.0) / (side.count + 2.0)
        return share * (1.0 - share)
    return (side.squares - side.total**2 / side.count) / (side.count - 1)
