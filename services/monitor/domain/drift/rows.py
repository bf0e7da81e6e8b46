"""Rows of features and outputs, in columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FEATURES_MAX = 1024
"""Columns of one version that are followed: beyond it, an image's pixels for instance, one column says little."""
NAME_LENGTH_MAX = 256
CATEGORY_LENGTH_MAX = 200


@dataclass(frozen=True, order=True, slots=True)
class FeatureKey:
    """A feature or output by its name in the schema; an element of a vector is called `name[3]`."""

    name: str
    output: bool = False


@dataclass(frozen=True)
class Rows:
    """Some rows of one version. All columns have `count` values; NaN or None is a missing one."""

    count: int
    numbers: Mapping[FeatureKey, Floats] = field(default_factory=dict)
    categories: Mapping[FeatureKey, Sequence[str | None]] = field(default_factory=dict)
    seen: int = 0
    """Rows that they were drawn from; never fewer than there are."""
    confidences: Floats = field(default_factory=lambda: np.empty(0))
    """The probability of each row's predicted class; empty for versions without any."""


@dataclass(frozen=True)
class SampledRows:
    """Rows of one version that a batcher sampled, and when it had them, in microseconds since the Unix epoch."""

    rows: Rows
    time_us: int
