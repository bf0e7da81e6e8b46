"""Who owns which of a model's 100 places, and how few of them change hands when shares do.

A sticky key has one of the places 0 to 99 and gets the version that owns it (`sticky`). So a key moves only where its
place does. The places of a version are kept as runs: neighbouring places of one owner. When shares change,

- a version that grows or stays keeps every place that it has;
- a version that shrinks gives up exactly as many places as it shrinks by.

No other way of reaching the new shares moves fewer places. Which ones are given up follows from the *precedence* of the
versions, the order in which the weights name them: whoever is new to a model precedes those that were there. Whoever
precedes another stands before it, so between two neighbours only the border moves: up when the first one grows, and
back the same way. A version without such a border takes the first places of one that it precedes, or the last
places of one that precedes it. A canary therefore takes from the front of each of the others, and when it goes from 10
to 50, back to 10 and to 50 again, it gives and gets the same places.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.router.domain.routing import Share

PLACES = 100
Runs = tuple[Share, ...]
"""Owners of the places 0 to 99 in ascending order; neighbours differ."""


def in_order(weights: Mapping[str, int]) -> Runs:
    """Places for a model that had none: each version's in one run, in the order of `weights`."""
    return tuple(Share(version, weight) for version, weight in weights.items() if weight)


def counted(runs: Sequence[Share]) -> Mapping[str, int]:
    """How many places each owner has."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.version] = counts.get(run.version, 0) + run.percent
    return counts


def reassigned(runs: Sequence[Share], weights: Mapping[str, int]) -> Runs:
    """The places under `weights`, from those under the weights before (none: there were none).

    `weights` add up to 100 and name, in order of precedence, every version that has or had places; 0 is none.
    """
    if not runs:
        return in_order(weights)
    had = counted(runs)
    change = _Change(
        runs=list(runs),
        owed={version: weights.get(version, 0) - had.get(version, 0) for version in {**weights, **had}},
        rank={version: rank for rank, version in enumerate({**weights, **had})},
    )
    while any(owed > 0 for owed in change.owed.values()):
        change.move_most()
    return _joined(change.runs)


def proportional(weights: Mapping[str, int], present: Collection[str]) -> Mapping[str, int]:
    """`weights` of those that are `present`, scaled to 100; all of the others 0. Empty where nobody who is present has
    a share. Nobody who is present gets less than before."""
    kept = {version: weight for version, weight in weights.items() if weight and version in present}
    total = sum(kept.values())
    if not total:
        return {}
    scaled = {version: weight * PLACES // total for version, weight in kept.items()}
    # What rounding down left over goes to those that lost most by it.
    by_loss = sorted(kept, key=lambda version: -(kept[version] * PLACES % total))
    for version in by_loss[: PLACES - sum(scaled.values())]:
        scaled[version] += 1
    return {version: scaled.get(version, 0) for version in weights}


def moved_places(before: Sequence[Share], after: Sequence[Share]) -> int:
    """How many places have another owner."""
    return sum(was != now for was, now in zip(owners(before), owners(after), strict=True))


def owners(runs: Sequence[Share]) -> Iterator[str]:
    """The owner of each place, from place 0 on."""
    for run in runs:
        yield from [run.version] * run.percent


@dataclass(slots=True)
class _Change:
    """Places on their way."""

    runs: list[Share]
    owed: dict[str, int]
    """What each version has to get; less than 0: to give."""
    rank: dict[str, int]
    """0 precedes all others."""

    def move_most(self) -> None:
        """Makes one move, as large as it can be: at the first border between one that has to give and one that has to
        get where the precedence is right, and where there is none, it opens a new run."""
        for at, (left, right) in enumerate(pairwise(self.runs)):
            if self._passes(left, right) and self._precedes(left, right):
                if self.owed[left.version] > 0:
                    self._take_front(at + 1, left.version)
                else:
                    self._take_back(at, right.version)
                return
        self._open()

    def _passes(self, left: Share, right: Share) -> bool:
        """Whether one of the two has to give and the other to get."""
        return self.owed[left.version] * self.owed[right.version] < 0

    def _precedes(self, left: Share, right: Share) -> bool:
        return self.rank[left.version] < self.rank[right.version]

    def _open(self) -> None:
        """Whoever comes first of those that have to get takes places that do not border on its own."""
        taker = min((version for version, owed in self.owed.items() if owed > 0), key=lambda one: self.rank[one])
        givers = [at for at, run in enumerate(self.runs) if self.owed[run.version] < 0]
        behind = [at for at in givers if self.rank[self.runs[at].version] > self.rank[taker]]
        if behind:
            self._take_front(behind[0], taker)
        else:
            self._take_back(givers[-1], taker)

    def _take_front(self, at: int, taker: str) -> None:
        moved = self._account(self.runs[at], taker)
        self.runs[at : at + 1] = [Share(taker, moved), *_rest(self.runs[at], moved)]
        self.runs[:] = _joined(self.runs)

    def _take_back(self, at: int, taker: str) -> None:
        moved = self._account(self.runs[at], taker)
        self.runs[at : at + 1] = [*_rest(self.runs[at], moved), Share(taker, moved)]
        self.runs[:] = _joined(self.runs)

    def _account(self, given: Share, taker: str) -> int:
        moved = min(given.percent, -self.owed[given.version], self.owed[taker])
        self.owed[given.version] += moved
        self.owed[taker] -= moved
        return moved


def _rest(run: Share, moved: int) -> Sequence[Share]:
    return [Share(run.version, run.percent - moved)] if run.percent > moved else []


def _joined(runs: Sequence[Share]) -> Runs:
    joined: list[Share] = []
    for run in runs:
        if joined and joined[-1].version == run.version:
            joined[-1] = Share(run.version, joined[-1].percent + run.percent)
        else:
            joined.append(run)
    return tuple(joined)
