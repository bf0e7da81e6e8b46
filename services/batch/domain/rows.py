"""Rows of an input become tensors. A row that does not fit is named and left out; the others go on without it.

Columns come as Arrow arrays (Parquet: typed; CSV: text) or as lists of Python values (JSON Lines). The usual column is
turned as a whole; only where that fails is it looked at value by value, to find the rows to blame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.batch.domain.columns import Column, ids_of
from services.batch.domain.layout import FeatureColumns, Layout
from services.common.errors import Reason, shown
from services.common.schema import DataType, TensorSpec

Tensor = npt.NDArray[np.generic]
Bad = dict[int, tuple[str, str]]
"""Reason and message by the row's place in its block."""

_EXACT_MAX = 2**53
"""Whole numbers up to here survive a trip through a float."""


@dataclass(frozen=True)
class RowBlock:
    """Rows that follow one another. `bad` are those that could not be read; their values are not meaningful."""

    first_row: int
    row_count: int
    columns: Mapping[str, Column]
    bad: Bad = field(default_factory=dict)
    origin: str = ""
    """The file that they are from, where the input has several."""
    origin_row: int = 0
    """The number of the first row in that file."""


@dataclass(frozen=True)
class Encoded:
    """The tensors of a block, one row for each row of it; rows in `bad` hold zeros and must not be sent."""

    tensors: Mapping[str, Tensor]
    bad: Bad

    def good_rows(self, row_count: int) -> npt.NDArray[np.int64]:
        """The places of the rows that may be sent, in order."""
        keep = np.ones(row_count, dtype=bool)
        keep[list(self.bad)] = False
        return np.flatnonzero(keep).astype(np.int64)


def encode(block: RowBlock, layout: Layout) -> Encoded:
    """The tensors of all features that the input has. An optional feature without a column is left to the model."""
    bad: Bad = dict(block.bad)
    tensors: dict[str, Tensor] = {}
    for feature in layout.features:
        if feature.columns:
            tensor, wrong = _encode_feature(block, feature)
            tensors[feature.spec.name] = tensor
            for place, message in wrong.items():
                bad.setdefault(place, (Reason.SCHEMA_VIOLATION, message))
    return Encoded(tensors, bad)


def _encode_feature(block: RowBlock, feature: FeatureColumns) -> tuple[Tensor, dict[int, str]]:
    if feature.entity:
        return _encode_ids(block.columns[feature.columns[0]], feature.columns[0])
    if not feature.spread:
        return encode_column(block.columns[feature.columns[0]], feature.element, feature.columns[0])
    numbers, wrong = [], dict[int, str]()
    for name in feature.columns:
        tensor, bad = encode_column(block.columns[name], feature.element, name)
        numbers.append(tensor)
        for place, message in bad.items():
            wrong.setdefault(place, message)
    return np.stack(numbers, axis=1), wrong


def _encode_ids(column: Column, name: str) -> tuple[Tensor, dict[int, str]]:
    ids = ids_of(column)
    wrong = {place: f"column {name!r} is no text and no whole number" for place, one in enumerate(ids) if one is None}
    return np.array(["" if one is None else one for one in ids], dtype=np.object_), wrong


def encode_column(column: Column, spec: TensorSpec, name: str) -> tuple[Tensor, dict[int, str]]:
    """The tensor of one column and the rows whose values do not fit, with what is wrong."""
    tensor = _whole(column, spec)
    wrong: dict[int, str] = {}
    if tensor is None:
        tensor, wrong = _one_by_one(column, spec, name)
    _check_values(tensor, spec, name, wrong)
    return tensor, wrong


def _whole(column: Column, spec: TensorSpec) -> Tensor | None:
    """The column as a whole, or None where anything about it is unusual."""
    if isinstance(column, list):
        return _from_values(column, spec)
    if column.null_count:
        return None
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type):
        return _from_text(column, spec)
    flat, length = column, 1
    for size in spec.shape:
        flat = _flatten(flat, size)
        if flat is None:
            return None
        length *= size
    if pa.types.is_decimal(flat.type):
        flat = flat.cast(pa.float64())
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type) or pa.types.is_boolean(flat.type)):
        return None
    numbers = _array(flat)
    if len(numbers) != len(column) * length:
        return None
    return _cast(numbers.reshape(len(column), *spec.shape), spec)


def _array(column: pa.Array) -> Tensor:
    numbers: Tensor = column.to_numpy(zero_copy_only=False)
    return numbers


def _flatten(column: pa.Array, size: int) -> pa.Array | None:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    if not pc.all(pc.equal(pc.list_value_length(column), size), min_count=0).as_py():
        return None
    flat = column.flatten()
    return None if flat.null_count else flat


def _from_text(column: pa.Array, spec: TensorSpec) -> Tensor | None:
    if spec.shape:
        return None
    if spec.data_type is DataType.BYTES:
        return np.array(column.to_pylist(), dtype=np.object_)
    try:
        if spec.data_type is DataType.BOOL:
            return _array(column.cast(pa.bool_()))
        target = pa.int64() if spec.data_type.is_integer and spec.data_type is not DataType.UINT64 else pa.float64()
        target = pa.uint64() if spec.data_type is DataType.UINT64 else target
        return _cast(_array(pc.cast(pc.utf8_trim_whitespace(column), target)), spec)
    except pa.ArrowInvalid:
        return None


def _from_values(values: Sequence[object], spec: TensorSpec) -> Tensor | None:
    if spec.data_type is DataType.BYTES:
        return None
    numbers = _numbers(values, spec)
    return None if numbers is None or numbers.shape != (len(values), *spec.shape) else _cast(numbers, spec)


def _numbers(value: object, spec: TensorSpec) -> Tensor | None:
    """Python's numbers as numpy has them, None where they are none, or not all of them."""
    try:
        numbers = np.array(value)
        if numbers.dtype.kind == "O" and spec.data_type.is_float:
            # Whole numbers beyond 64 bits.
            plain = all(type(item) in (int, float) for item in numbers.ravel().tolist())
            numbers = numbers.astype(np.float64) if plain else numbers
    except (ValueError, OverflowError):
        return None
    return None if _hides_truth(value, numbers) else numbers


def _hides_truth(value: object, numbers: Tensor) -> bool:
    """Whether numpy took truth values for numbers, because they stood among some."""
    return numbers.dtype.kind != "b" and _any_truth(value)


def _any_truth(value: object) -> bool:
    return any(map(_any_truth, value)) if isinstance(value, list) else value is True or value is False


def _cast(numbers: Tensor, spec: TensorSpec) -> Tensor | None:
    """Numbers in the feature's type; None where one of them has no place in it."""
    target = np.dtype(spec.data_type.numpy_name)
    kind = numbers.dtype.kind
    if spec.data_type is DataType.BYTES or kind not in "fiub":
        return None
    if (kind == "b") != (spec.data_type is DataType.BOOL):
        return None
    if spec.data_type.is_integer and numbers.size:
        if kind == "f" and not bool(np.all((numbers == np.floor(numbers)) & (np.abs(numbers) <= _EXACT_MAX))):
            return None
        limits = np.iinfo(target)
        if int(numbers.min()) < limits.min or int(numbers.max()) > limits.max:
            return None
    with np.errstate(over="ignore"):
        cast = numbers.astype(target)
    # NaN and infinity may be meant; a number that the type cannot hold is not.
    if spec.data_type.is_float and not np.array_equal(np.isfinite(cast), np.isfinite(numbers)):
        return None
    return cast


def _one_by_one(column: Column, spec: TensorSpec, name: str) -> tuple[Tensor, dict[int, str]]:
    text = not isinstance(column, list) and is_text(column.type)
    values = column if isinstance(column, list) else column.to_pylist()
    default = orjson.loads(spec.default_json) if spec.optional and spec.default_json else None
    tensor: Tensor = np.zeros((len(values), *spec.shape), dtype=spec.data_type.numpy_name)
    if spec.data_type is DataType.BYTES:
        tensor[...] = b""
    wrong: dict[int, str] = {}
    for place, value in enumerate(values):
        meant = default if value is None or (text and value == "" and spec.optional) else value
        row = _one(meant, spec, text=text and meant is value)
        if row is None:
            wrong[place] = f"column {name!r} is {shown(value)}; expected {expectation(spec)}"
        else:
            # An array of no dimensions would be stored as itself where elements are objects.
            tensor[place] = row if spec.shape else row[()]
    return tensor, wrong


def _one(value: object, spec: TensorSpec, *, text: bool) -> Tensor | None:
    """One row's value, or None where it does not fit."""
    if text and isinstance(value, str) and (spec.shape or spec.data_type is not DataType.BYTES):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return _number(value, spec)
    if spec.data_type is DataType.BYTES:
        items = np.array(value, dtype=np.object_)
        if items.shape != spec.shape or not all(isinstance(item, str | bytes) for item in items.ravel().tolist()):
            return None
        return items
    numbers = _numbers(value, spec)
    return None if numbers is None or numbers.shape != spec.shape else _cast(numbers, spec)


def _number(text: object, spec: TensorSpec) -> Tensor | None:
    """Numbers that JSON does not write so: "1.", "+3", "nan", "True"."""
    if spec.shape or not isinstance(text, str):
        return None
    word = text.strip().lower()
    if spec.data_type is DataType.BOOL:
        return np.array(word == "true") if word in ("true", "false") else None
    try:
        return _cast(np.array(float(word)), spec)
    except ValueError:
        return None


def _check_values(tensor: Tensor, spec: TensorSpec, name: str, wrong: dict[int, str]) -> None:
    """Adds the rows whose values are outside the range or the categories."""
    flat = tensor.reshape(len(tensor), tensor.size // max(1, len(tensor)))
    outside = np.zeros(len(tensor), dtype=bool)
    if spec.data_type is DataType.BYTES:
        if spec.categories:
            allowed = {*spec.categories, *(word.encode() for word in spec.categories)}
            outside = np.array([any(item not in allowed for item in row) for row in flat], dtype=bool)
    else:
        if spec.minimum is not None:
            outside |= np.less(flat, spec.minimum).any(axis=1)
        if spec.maximum is not None:
            outside |= np.greater(flat, spec.maximum).any(axis=1)
    for place in np.flatnonzero(outside).tolist():
        value = flat[place].tolist() if spec.shape else flat[place, 0]
        wrong.setdefault(place, f"column {name!r} is {_plain(value)}; expected {expectation(spec)}")


def _plain(value: object) -> str:
    return shown(value.item() if isinstance(value, np.generic) else value)


def expectation(spec: TensorSpec) -> str:
    """What a feature takes, in words."""
    kind = "text" if spec.data_type is DataType.BYTES else spec.data_type.value
    words = [kind if not spec.shape else f"{kind} of shape {list(spec.shape)}"]
    if spec.minimum is not None:
        words.append(f"at least {spec.minimum:g}")
    if spec.maximum is not None:
        words.append(f"at most {spec.maximum:g}")
    if spec.categories:
        words.append("one of " + shown(list(spec.categories)))
    return ", ".join(words)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
