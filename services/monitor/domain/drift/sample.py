"""A uniform sample of rows that merges exactly: each row draws a key, and the rows with the smallest keys stay.

Bottom-k sampling (Cohen, Kaplan, PODC 2007). Rows are those of numeric features alone; what tells window from baseline
by categories is in their own comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.monitor.domain.drift.rows import FeatureKey, Rows

Singles = npt.NDArray[np.float32]

SAMPLE_ROWS_MAX = 500
SAMPLE_FEATURES_MAX = 64
"""The first so many, by name: more would cost more than the sample is worth."""


@dataclass
class RowSample:
    """At most `SAMPLE_ROWS_MAX` rows; NaN is a missing value."""

    names: Sequence[str] = ()
    keys: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Ascending."""
    values: Singles = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    """One row for each key, one column for each name."""

    def add(self, rows: Rows, chance: np.random.Generator) -> None:
        """Adds rows, which draw their keys from `chance`."""
        names = sorted(key.name for key in rows.numbers if not key.output)[:SAMPLE_FEATURES_MAX]
        if not names or not rows.count:
            return
        values = np.column_stack([rows.numbers[FeatureKey(name)] for name in names]).astype(np.float32)
        self.merge(RowSample(names, chance.random(rows.count), values))

    def merge(self, other: "RowSample") -> None:
        """The sample of both. Columns that one of the two does not have are missing there."""
        if not len(other.keys):
            return
        names = sorted({*self.names, *other.names})[:SAMPLE_FEATURES_MAX]
        keys = np.concatenate((self.keys, other.keys))
        values = np.concatenate((self.columns(names), other.columns(names)))
        smallest = np.argsort(keys, kind="stable")[:SAMPLE_ROWS_MAX]
        self.names, self.keys, self.values = names, keys[smallest], values[smallest]

    def columns(self, names: Sequence[str]) -> Singles:
        """The sample's columns of these names."""
        if list(names) == list(self.names):
            return self.values
        places = {name: place for place, name in enumerate(self.names)}
        table = np.full((len(self.keys), len(names)), np.nan, dtype=np.float32)
        for at, name in enumerate(names):
            if name in places:
                table[:, at] = self.values[:, places[name]]
        return table
