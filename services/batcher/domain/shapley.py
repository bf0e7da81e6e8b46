"""Shapley values of one prediction: which mixtures of instance and reference rows to ask the model about, and what its
answers make of the features.

The game is the interventional one (Lundberg and Lee, 2017; Janzing et al., 2020): a coalition of features is worth the
output, on average over the reference rows, when its features have the instance's values and all others the reference
row's. So features of every type take part, and what a feature has no influence on it is not credited with.

A *mixture* is one row to ask about: a reference row, and which players take the instance's value instead. The instance
itself and the reference rows as they are (all players, no player) are asked about once, by the caller, and are no
mixtures.

Where the budget allows all coalitions with all reference rows, the values are exact. Else they are sampled by orders
(Castro et al., 2009): players join one after the other, each credited with what it changed, over random orders that
come in pairs, forwards and backwards (Mitchell et al., 2022), which cancels what two players do together. Either way
the values add up to the instance's output less the mean of the reference rows', whatever was drawn: within an order the
steps telescope. And a linear model gets its exact values, because every order credits a player with the same.

Rejected: all coalitions with a few of the reference rows, where the budget does not allow all of them. At the same cost
its error was three to twenty times that of orders spread over the whole sample.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

PLAYERS_MAX = 1024
"""The most features that are told apart."""
ROWS_PER_PLAYER = 16
"""What each player adds to the budget: eight pairs of orders are affordable, whatever the budget."""
_EXACT_PLAYERS_MAX = 12

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Mixtures:
    """Rows to ask about. `taken` has one row for each and one column for each player: True, the instance's value."""

    taken: Mask
    references: Indices
    """The place of each row's reference row in the sample."""


class Design(Protocol):
    """What is asked about to explain one instance."""

    @property
    def rows(self) -> int:
        """How many mixtures there are."""
        ...

    @property
    def references(self) -> Indices:
        """The places of the reference rows that are used, each as often as it counts."""
        ...

    @property
    def exact(self) -> bool:
        """Whether every coalition is asked about."""
        ...

    def mixtures(self, start: int, stop: int) -> Mixtures:
        """The mixtures `start` to `stop` (exclusive)."""
        ...

    def values(self, outputs: Floats, instance: float, references: Floats) -> Floats:
        """The value of each player, from the outputs of all mixtures in their order, the instance's output and those of
        the reference rows used, in the order of `references`. They add up to `instance - references.mean()`."""
        ...


def plan(players: int, references: int, *, rows_max: int, seed: int) -> Design:
    """The design for so many players against so many reference rows.

    It asks about at most `rows_max + ROWS_PER_PLAYER * players` mixtures. The same arguments give the same design;
    which reference rows are used does not depend on the seed, so that all instances of a version share one baseline.
    """
    budget = rows_max + ROWS_PER_PLAYER * players
    if players <= 1 or (players <= _EXACT_PLAYERS_MAX and (2**players - 2) * references <= budget):
        return Coalitions(players, references)
    return Orders(players, references, budget=budget, seed=seed)


class Coalitions:
    """All coalitions with all reference rows: a `Design`."""

    exact = True

    def __init__(self, players: int, references: int) -> None:
        self._players = players
        self._proper = max(0, 2**players - 2)
        """Coalitions of some players but not all. Bit i of a coalition's number says whether player i is in it."""
        self.references: Indices = np.arange(references)
        self.rows = self._proper * references

    def mixtures(self, start: int, stop: int) -> Mixtures:
        """Coalition after coalition, each with every reference row."""
        numbers, places = np.divmod(np.arange(start, stop), len(self.references))
        taken = ((numbers[:, None] + 1) >> np.arange(self._players)) & 1
        return Mixtures(taken.astype(np.bool_), places)

    def values(self, outputs: Floats, instance: float, references: Floats) -> Floats:
        """Shapley's own formula (1953): the mean over all orders of what a player changes by joining."""
        players = self._players
        worth = np.empty(2**players)
        worth[0], worth[-1] = references.mean(), instance
        if self._proper:
            worth[1:-1] = outputs.reshape(self._proper, -1).mean(axis=1)
        elif not players:
            return np.zeros(0)
        numbers = np.arange(2**players)
        sizes = ((numbers[:, None] >> np.arange(players)) & 1).sum(axis=1)
        values = np.empty(players)
        weights = _weights(players)
        for player in range(players):
            without = numbers[(numbers >> player) & 1 == 0]
            changes = worth[without | (1 << player)] - worth[without]
            values[player] = (weights[sizes[without]] * changes).sum()
        return values


class Orders:
    """Random orders in pairs, forwards and backwards, spread evenly over the reference rows: a `Design`."""

    exact = False

    def __init__(self, players: int, references: int, *, budget: int, seed: int) -> None:
        self._steps = players - 1
        pairs = max(1, budget // (2 * self._steps))
        used = np.arange(references)
        if pairs < references:
            used = np.sort(np.random.default_rng(references).permutation(references)[:pairs])
        each = max(1, pairs // len(used))
        self.references: Indices = used
        self._each = 2 * each
        """Orders for each reference row."""
        self._ranks = _ranks(players, each * len(used), seed)
        self.rows = self._steps * len(self._ranks)

    def mixtures(self, start: int, stop: int) -> Mixtures:
        """Order after order: the first player alone, the first two, and so on."""
        orders, steps = np.divmod(np.arange(start, stop), self._steps)
        return Mixtures(self._ranks[orders] <= steps[:, None], self.references[orders // self._each])

    def values(self, outputs: Floats, instance: float, references: Floats) -> Floats:
        """The mean over the orders of what each player changed by joining."""
        orders = len(self._ranks)
        path = np.empty((orders, self._steps + 2))
        path[:, 0] = np.repeat(references, self._each)
        path[:, 1:-1] = outputs.reshape(orders, self._steps)
        path[:, -1] = instance
        changes = np.diff(path, axis=1)
        credited: Floats = np.take_along_axis(changes, self._ranks.astype(np.intp), axis=1).mean(axis=0)
        return credited


def _weights(players: int) -> Floats:
    """By the size of a coalition: the share of all orders in which its players come first and a given one next."""
    weights = np.empty(players)
    weights[0] = 1 / players
    for size in range(1, players):
        weights[size] = weights[size - 1] * size / (players - size)
    return weights


def _ranks(players: int, pairs: int, seed: int) -> npt.NDArray[np.int16]:
    """For each order the place of each player in it; every second order is the one before, backwards."""
    rng = np.random.default_rng(seed)
    ranks = np.empty((2 * pairs, players), np.int16)
    ranks[0::2] = rng.permuted(np.tile(np.arange(players, dtype=np.int16), (pairs, 1)), axis=1)
    ranks[1::2] = players - 1 - ranks[0::2]
    return ranks
