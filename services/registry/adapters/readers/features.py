"""Tensors of models that know their features as columns: each one by its name, or all of them in one row."""

from collections.abc import Sequence

from services.common.schema import DataType
from services.registry.domain.schemas import StatedTensor

NAMED_MAX = 4096
"""More columns than that are one tensor: no caller writes so many names."""
_NAME_LENGTH_MAX = 256


def usable_names(names: Sequence[str], count: int) -> bool:
    """Whether tensors may be called so: as many as there are features, different, printable."""
    fits = len(names) == count and len(set(names)) == count and 0 < count <= NAMED_MAX
    return fits and all(0 < len(name) <= _NAME_LENGTH_MAX and name.isprintable() for name in names)


def row(count: int, data_type: DataType) -> tuple[StatedTensor, ...]:
    """All features in one row."""
    return (StatedTensor("X", data_type, (count,)),)


def classes(count: int, data_type: DataType) -> tuple[StatedTensor, ...]:
    """What a classifier gives: the class's number, and one probability for each."""
    return StatedTensor("label", DataType.INT64, ()), StatedTensor("probabilities", data_type, (count,))


def values(count: int, data_type: DataType) -> tuple[StatedTensor, ...]:
    """What anything else gives: a number, or several."""
    return (StatedTensor("output", data_type, (count,) if count > 1 else ()),)
