"""Versions, tensors and values of every element type for tests of what the batcher's faces read and write."""

import math
import struct
from collections.abc import Sequence

from hypothesis import strategies as st

from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import Value, pack
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

LABEL = TensorSpec("label", DataType.INT64)
PROBABILITIES = TensorSpec("probabilities", DataType.FP32, (3,))
NUMBER_TYPES = tuple(item for item in DataType if item.is_integer or item.is_float)
_DIGITS = {DataType.FP16: (5, 10), DataType.BF16: (8, 7), DataType.FP32: (8, 23), DataType.FP64: (11, 52)}
_WIDTHS = {DataType.FP16: 16, DataType.FP32: 32, DataType.FP64: 64}


def version_of(
    *inputs: TensorSpec,
    outputs: Sequence[TensorSpec] = (LABEL, PROBABILITIES),
    mapping: PredictionMapping | None = None,
) -> ServedVersion:
    """A version of "digits" that takes these features."""
    chosen = mapping or PredictionMapping("label", "probabilities", ("zero", "one", "two"))
    return ServedVersion("digits", "v1.0.0", "prod", ModelSchema(inputs, tuple(outputs)), mapping=chosen)


def tensor_of(name: str, data_type: DataType, shape: Sequence[int], values: Sequence[Value]) -> Tensor:
    """A tensor with these elements in row-major order."""
    return Tensor(name, data_type, tuple(shape), pack(data_type, values))


def answer(labels: Sequence[int], *probabilities: Sequence[float]) -> InferResult:
    """What a model of three classes said of as many rows."""
    rows = len(labels)
    flat = [value for row in probabilities for value in row]
    return InferResult(
        (
            tensor_of("label", DataType.INT64, (rows,), labels),
            tensor_of("probabilities", DataType.FP32, (rows, 3), flat),
        )
    )


def limits_of(data_type: DataType) -> tuple[int, int]:
    """The smallest and the largest whole number of an integer type."""
    bits = data_type.size_bytes * 8
    if data_type.value.startswith("U"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def values_of(data_type: DataType) -> st.SearchStrategy[Value]:
    """Values that the type holds exactly."""
    if data_type is DataType.BOOL:
        return st.booleans()
    if data_type is DataType.BYTES:
        return st.text(st.characters(codec="utf-8"), max_size=12) | st.binary(max_size=12)
    if data_type.is_integer:
        return st.integers(*limits_of(data_type))
    if data_type is DataType.BF16:
        return st.binary(min_size=2, max_size=2).map(_bfloat16).filter(lambda value: not math.isnan(value))
    return st.floats(width=_WIDTHS[data_type], allow_nan=False)  # type: ignore[arg-type]


def largest_of(data_type: DataType) -> float:
    """The largest finite number of a float type."""
    exponent_bits, fraction_bits = _DIGITS[data_type]
    return math.ldexp(2.0 - 2.0**-fraction_bits, (1 << (exponent_bits - 1)) - 1)


def _bfloat16(data: bytes) -> float:
    value: float = struct.unpack("<f", b"\0\0" + data)[0]
    return value
