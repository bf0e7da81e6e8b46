"""Python values and numpy arrays into typed features, and back.

Nothing is guessed and nothing is cut: real numbers go as doubles (numpy's single-precision arrays as they are), nested
lists row by row, and the batcher checks all of it against the version's schema.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Protocol, runtime_checkable

from infermesh.prediction.v1 import instance_pb2

Instance = Mapping[str, object]
"""One row to predict: a value for each feature of the version's input schema."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_LIST_FIELDS = ("float_list", "double_list", "int_list", "string_list", "bool_list", "bytes_list")


@runtime_checkable
class _Array(Protocol):
    """What is needed of a numpy array or scalar, so that numpy need not be there."""

    @property
    def dtype(self) -> object:
        """The type of its elements; its text is enough."""

    def tolist(self) -> object:
        """Plain Python values."""


def to_instance(values: Instance, *, place: int = 0) -> instance_pb2.Instance:
    """A row as the wire has it. Raises TypeError naming instance `place` and the feature that cannot be sent."""
    if not isinstance(values, Mapping):
        raise TypeError(f"instances[{place}] is {type(values).__name__}; it must map feature names to values")
    made = instance_pb2.Instance()
    for name, value in values.items():
        try:
            made.features[name].CopyFrom(to_feature(value))
        except (TypeError, ValueError) as fault:
            raise TypeError(f"instances[{place}].{name}: {fault}") from None
    return made


def to_feature(value: object) -> instance_pb2.Feature:
    """One value as the wire has it; None counts as left out. Raises TypeError or ValueError saying what can be sent."""
    single = False
    if isinstance(value, _Array):
        single = str(value.dtype) == "float32"
        value = value.tolist()
    if value is None:
        return instance_pb2.Feature()
    if isinstance(value, str):
        return instance_pb2.Feature(string_value=value)
    if isinstance(value, bytes):
        return instance_pb2.Feature(bytes_value=value)
    if isinstance(value, bool):
        return instance_pb2.Feature(bool_value=value)
    if isinstance(value, int):
        return instance_pb2.Feature(int64_value=_int64(value))
    if isinstance(value, float):
        return instance_pb2.Feature(float_value=value) if single else instance_pb2.Feature(double_value=value)
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return _list_feature(list(_flat(list(value))), single=single)
    raise TypeError(
        f"a {type(value).__name__} cannot be sent; send a number, text, bytes, a truth value or a list of them"
    )


def to_value(feature: instance_pb2.Feature) -> object:
    """The Python value of a feature: a scalar, a list, or None where it is unset."""
    kind = feature.WhichOneof("kind")
    if kind is None:
        return None
    value = getattr(feature, kind)
    return list(value.values) if kind in _LIST_FIELDS else value


def _list_feature(values: Sequence[object], *, single: bool) -> instance_pb2.Feature:
    kinds = {type(item) for item in values}
    if kinds <= {float} and single:
        return instance_pb2.Feature(float_list=instance_pb2.FloatList(values=_typed(values, float)))
    if kinds == {int}:
        whole = [_int64(item) for item in _typed(values, int)]
        return instance_pb2.Feature(int_list=instance_pb2.IntList(values=whole))
    if kinds <= {int, float}:
        # An int that a double cannot hold exactly would arrive as another number.
        real = [_exact(item) if isinstance(item, int) else item for item in _typed(values, int | float)]
        return instance_pb2.Feature(double_list=instance_pb2.DoubleList(values=real))
    if kinds == {bool}:
        return instance_pb2.Feature(bool_list=instance_pb2.BoolList(values=_typed(values, bool)))
    if kinds == {str}:
        return instance_pb2.Feature(string_list=instance_pb2.StringList(values=_typed(values, str)))
    if kinds == {bytes}:
        return instance_pb2.Feature(bytes_list=instance_pb2.BytesList(values=_typed(values, bytes)))
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"a list of {names} cannot be sent; all its elements must be of one type")


def _flat(values: list[object]) -> Iterator[object]:
    """The elements row by row. Raises ValueError where the rows differ in length or depth."""
    nested = [isinstance(item, list | tuple | _Array) for item in values]
    if not any(nested):
        yield from values
        return
    rows = [_row(item) for item in values] if all(nested) else []
    if len({len(row) for row in rows}) != 1:
        raise ValueError("the rows of a nested list must have the same length")
    for row in rows:
        yield from _flat(row)


def _row(item: object) -> list[object]:
    plain = item.tolist() if isinstance(item, _Array) else item
    return list(plain) if isinstance(plain, list | tuple) else [plain]


def _typed(values: Sequence[object], kind: type | UnionType) -> list:  # type: ignore[type-arg]
    assert all(isinstance(item, kind) for item in values)
    return list(values)


def _int64(value: int) -> int:
    if not _INT64_MIN <= value <= _INT64_MAX:
        raise ValueError(f"{value} does not fit in 64 bits")
    return value


def _exact(value: int) -> float:
    real = float(value)
    if int(real) != value:
        raise ValueError(f"{value} stands among real numbers and has no exact double")
    return real
