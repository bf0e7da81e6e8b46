"""Feature values as of a moment: for each row the latest row of a history at or before it, and never a later one.

An as-of join (what Feast calls point-in-time join and pandas `merge_asof` backward): for entity e and moment t, the row
of e with the largest moment that is at most t, and of those with one moment the last in the file. What comes after t
would tell the model what could not be known then: an accuracy measured so is not kept in service.

All is one sort of the history and one binary search for each row, over numbers that stand for (entity, moment).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

MOMENT_MAX_US = 2**60
"""Far beyond the year 9999; differences of two moments fit in 64 bits."""
NOWHERE = -1
"""The place of no row."""


class Timeline:
    """The moments of a history, by entity. `entities` are the history's ids, `moments_us` its moments in microseconds,
    both in the order of the file and within MOMENT_MAX_US of 1970."""

    def __init__(self, entities: Sequence[str | None], moments_us: Ints) -> None:
        self._codes = {name: code for code, name in enumerate(dict.fromkeys(entities)) if name is not None}
        # A row of nobody is found by nobody.
        nobody = len(self._codes) + 1
        codes = np.fromiter((self._codes.get(name, nobody) for name in entities), np.int64, len(entities))  # type: ignore[arg-type]
        self._distinct = np.unique(moments_us)
        self._moments = moments_us
        keys = self._keys(codes, moments_us)
        # Stable: of rows with one entity and one moment the last in the file stays the last.
        self._order = np.argsort(keys, kind="stable").astype(np.int64)
        self._sorted = keys[self._order]

    def _keys(self, codes: Ints, moments_us: Ints) -> Ints:
        """Numbers that sort as (entity, moment) do; a moment counts as how many of the history are at or before it."""
        ranks = np.searchsorted(self._distinct, moments_us, side="right").astype(np.int64)
        keys: Ints = codes * np.int64(len(self._distinct) + 1) + ranks
        return keys

    def places(self, entities: Sequence[str | None], moments_us: Ints, *, age_max_us: int | None = None) -> Ints:
        """For each entity and moment the place in the history of the row that holds then; NOWHERE where there is none,
        or where it is older than `age_max_us`."""
        unknown = len(self._codes) + 2
        asked = np.fromiter((self._codes.get(name, unknown) for name in entities), np.int64, len(entities))  # type: ignore[arg-type]
        if not len(self._sorted):
            return np.full(len(asked), NOWHERE, dtype=np.int64)
        last = np.searchsorted(self._sorted, self._keys(asked, moments_us), side="right") - 1
        found = self._order[np.maximum(last, 0)]
        width = np.int64(len(self._distinct) + 1)
        holds = (last >= 0) & (self._sorted[np.maximum(last, 0)] // width == asked)
        if age_max_us is not None:
            holds &= moments_us - self._moments[found] <= age_max_us
        places: Ints = np.where(holds, found, NOWHERE)
        return places
