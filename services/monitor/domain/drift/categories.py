"""Rows by category in fixed memory: exact up to 1,536 of them, the frequent ones beyond (Anderson et al., IMC 2017)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datasketches import frequent_items_error_type, frequent_strings_sketch

LG_MAP_SIZE = 11
EXACT_MAX = 1536
"""Three quarters of the map: so many different categories are counted exactly."""


@dataclass
class CategorySketch:
    """Counts by category, and the rows without any."""

    missing: int = 0
    counts: frequent_strings_sketch = field(default_factory=lambda: frequent_strings_sketch(LG_MAP_SIZE))

    @property
    def rows(self) -> int:
        """Rows summed up, missing ones included."""
        return self.missing + int(self.counts.total_weight)

    def add(self, values: Sequence[str | None]) -> None:
        """Adds a column; None is a missing value."""
        for value, count in Counter(values).items():
            if value is None:
                self.missing += count
            else:
                self.counts.update(value, count)

    def merge(self, other: "CategorySketch") -> None:
        """Adds what another one counted."""
        self.missing += other.missing
        self.counts.merge(other.counts)

    def kept(self) -> Mapping[str, int]:
        """Rows by category, at least so many, of those that are kept one by one."""
        found = self.counts.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES, 0)
        return {name: lower for name, _estimate, lower, _upper in found if lower > 0}

    @property
    def exact(self) -> bool:
        """Whether every category that ever came is kept, with its true count."""
        return sum(self.kept().values()) == int(self.counts.total_weight)

    def encode(self) -> bytes:
        """The counts as Apache DataSketches serialises them; the missing ones are apart."""
        encoded: bytes = self.counts.serialize()
        return encoded

    @classmethod
    def decode(cls, data: bytes, *, missing: int) -> "CategorySketch":
        """Raises ValueError or RuntimeError where the bytes are none."""
        return cls(missing, frequent_strings_sketch.deserialize(data))
