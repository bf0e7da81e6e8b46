"""Real rows for `drift_replay`: the RAND health insurance experiment, 20,190 person-years, as statsmodels ships it.

One half is the baseline, the other is what is replayed. Beside the ten columns there are random mixtures of them, as
many as wanted, so that a thousand features of real, correlated data can be watched.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from statsmodels.datasets import randhie

from services.monitor.domain.drift.rows import FeatureKey, Rows
from services.monitor.domain.drift.summary import Summary

Floats = npt.NDArray[np.float64]

_CATEGORIES = ("idp", "hlthg", "hlthf", "hlthp")
"""Columns of 0 and 1: categories."""


@dataclass(frozen=True)
class World:
    """Rows of both halves; `mixtures` turn the numbers into further features."""

    names: tuple[str, ...]
    baseline: Floats
    replayed: Floats
    mixtures: Floats

    def rows(self, table: Floats) -> Rows:
        """The rows of a table as the monitor gets them."""
        numbers: dict[FeatureKey, Floats] = {}
        categories = {}
        for at, name in enumerate(self.names):
            if name in _CATEGORIES:
                categories[FeatureKey(name)] = ["yes" if one else "no" for one in table[:, at]]
            else:
                numbers[FeatureKey(name)] = table[:, at]
        mixed = table @ self.mixtures
        numbers |= {FeatureKey(f"mixture {at}"): mixed[:, at] for at in range(mixed.shape[1])}
        return Rows(len(table), numbers=numbers, categories=categories)

    def summary(self, rows: Rows, chance: np.random.Generator) -> Summary:
        """The rows summed up."""
        summary = Summary()
        summary.add(rows, chance)
        return summary

    def windows(self, size: int, chance: np.random.Generator) -> Iterator[Floats]:
        """Windows of the replayed half without end: each row once, then all of them shuffled anew."""
        while True:
            order = chance.permutation(len(self.replayed))
            for begin in range(0, len(order) - size + 1, size):
                yield self.replayed[order[begin : begin + size]]


def world(*, mixtures: int, seed: int) -> World:
    """The data cut into halves at random, with so many mixtures of its columns."""
    chance = np.random.default_rng(seed)
    data = randhie.load_pandas().data
    table = data.to_numpy(dtype=np.float64)
    order = chance.permutation(len(table))
    half = len(table) // 2
    scale = table.std(axis=0)
    weights = chance.normal(size=(table.shape[1], mixtures)) / scale[:, None]
    return World(tuple(data.columns), table[order[:half]], table[order[half:]], weights)
