"""All that is kept of many rows: a sketch for each feature and output, a sample of rows, the mean confidence.

Of bounded size whatever is added. Summaries of parts merge to that of the whole: counts and the sample exactly, and the
sketches within the error that they state, in any order.
"""

import base64
import zlib
from collections.abc import Container
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import orjson

from services.monitor.domain.drift.categories import CategorySketch
from services.monitor.domain.drift.numbers import NumberSketch
from services.monitor.domain.drift.rows import FEATURES_MAX, FeatureKey, Rows
from services.monitor.domain.drift.sample import RowSample

FORMAT = 1


@dataclass
class Summary:
    """What is known of some rows of one version."""

    rows: int = 0
    """Rows in the sketches."""
    seen: int = 0
    """Rows that they were drawn from."""
    numbers: dict[FeatureKey, NumberSketch] = field(default_factory=dict)
    categories: dict[FeatureKey, CategorySketch] = field(default_factory=dict)
    sample: RowSample = field(default_factory=RowSample)
    confidence_sum: float = 0.0
    confidence_count: int = 0

    def add(self, rows: Rows, chance: np.random.Generator) -> None:
        """Adds rows. Beyond `FEATURES_MAX` columns, further ones are left out."""
        for key, numbers in rows.numbers.items():
            if self._follows(key, self.numbers):
                self.numbers.setdefault(key, NumberSketch(self.rows)).add(numbers)
        for key, names in rows.categories.items():
            if self._follows(key, self.categories):
                self.categories.setdefault(key, CategorySketch(self.rows)).add(names)
        self.sample.add(rows, chance)
        known = rows.confidences[np.isfinite(rows.confidences)]
        self.confidence_sum += float(known.sum())
        self.confidence_count += len(known)
        self._grow(rows.count, max(rows.seen, rows.count))

    def merge(self, other: "Summary") -> None:
        """Adds what another one knows. What only one of the two has was missing in the other."""
        for key, number in other.numbers.items():
            if self._follows(key, self.numbers):
                self.numbers.setdefault(key, NumberSketch(self.rows)).merge(number)
        for key, category in other.categories.items():
            if self._follows(key, self.categories):
                self.categories.setdefault(key, CategorySketch(self.rows)).merge(category)
        self.sample.merge(other.sample)
        self.confidence_sum += other.confidence_sum
        self.confidence_count += other.confidence_count
        self._grow(other.rows, other.seen)

    @property
    def mean_confidence(self) -> float | None:
        """The mean probability of the predicted class; None for versions without any."""
        return self.confidence_sum / self.confidence_count if self.confidence_count else None

    def _follows(self, key: FeatureKey, held: Container[FeatureKey]) -> bool:
        return key in held or len(self.numbers) + len(self.categories) < FEATURES_MAX

    def _grow(self, rows: int, seen: int) -> None:
        self.rows += rows
        self.seen += seen
        for number in self.numbers.values():
            number.missing += self.rows - number.rows
        for category in self.categories.values():
            category.missing += self.rows - category.rows

    def encode(self) -> bytes:
        """The summary as bytes."""
        sample = self.sample
        document = {
            "format": FORMAT,
            "rows": self.rows,
            "seen": self.seen,
            "confidences": [self.confidence_sum, self.confidence_count],
            "numbers": [_entry(key, one) for key, one in sorted(self.numbers.items(), key=lambda item: item[0])],
            "categories": [_entry(key, one) for key, one in sorted(self.categories.items(), key=lambda item: item[0])],
            "sample": [list(sample.names), _text(sample.keys.tobytes()), _text(sample.values.tobytes())],
        }
        return zlib.compress(orjson.dumps(document), level=1)

    @classmethod
    def decode(cls, data: bytes) -> "Summary":
        """What `encode` wrote. Raises ValueError where it is something else."""
        try:
            document = orjson.loads(zlib.decompress(data))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}; this monitor reads {FORMAT}")
            names, keys, values = document["sample"]
            held = np.frombuffer(base64.b64decode(keys), dtype=np.float64)
            total, count = document["confidences"]
            table = np.frombuffer(base64.b64decode(values), dtype=np.float32).reshape(len(held), len(names))
            summary = cls(
                rows=document["rows"],
                seen=document["seen"],
                numbers={
                    FeatureKey(name, output): NumberSketch.decode(base64.b64decode(sketch), missing=missing)
                    for name, output, missing, sketch in document["numbers"]
                },
                categories={
                    FeatureKey(name, output): CategorySketch.decode(base64.b64decode(sketch), missing=missing)
                    for name, output, missing, sketch in document["categories"]
                },
                sample=RowSample(names, held, table),
                confidence_sum=float(total),
                confidence_count=int(count),
            )
        except (zlib.error, KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"these bytes are no summary: {error}") from error
        if not isfinite(summary.confidence_sum):
            raise ValueError("these bytes are no summary: confidences do not add up")
        return summary


def _entry(key: FeatureKey, sketch: NumberSketch | CategorySketch) -> tuple[str, bool, int, str]:
    return (key.name, key.output, sketch.missing, _text(sketch.encode()))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
