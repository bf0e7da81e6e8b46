"""Tensors as JSON and back: the same bytes, or a refusal that says what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.adapters.http_wire import GarbledError
from services.batcher.adapters.json_values import cut, dumps, dumps_finite, finite, loads, nested, tensor_of, texts
from services.batcher.adapters.tensorflow_rest import column
from services.batcher.domain.shape import InputShape, row_bytes_of
from services.batcher.domain.tensors import pack, pack_bytes
from services.common.schema import DataType

NUMBERS = [one for one in DataType if one is not DataType.BYTES]


def values_of(data_type: DataType) -> st.SearchStrategy[float]:
    """Elements of a type."""
    if data_type is DataType.BOOL:
        return st.booleans()
    if data_type.is_float:
        # BF16 is rounded on its way in, so that only what it has is compared.
        if data_type is DataType.BF16:
            return st.sampled_from([0.0, 1.5, -2.0, 96.0])
        return {2: st.floats(width=16), 4: st.floats(width=32), 8: st.floats()}[data_type.size_bytes]
    bits = data_type.size_bytes * 8
    low, high = (0, 2**bits - 1) if data_type.value.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high)


@given(st.data(), st.sampled_from(NUMBERS), st.integers(1, 3), st.lists(st.integers(1, 3), max_size=2))
def test_numbers_come_back_as_they_were(
    data: st.DataObject, data_type: DataType, rows: int, row_shape: list[int]
) -> None:
    one = InputShape("x", data_type, tuple(row_shape), row_bytes_of(data_type, tuple(row_shape)))
    count = rows * (one.row_bytes // data_type.size_bytes)
    raw = pack(data_type, data.draw(st.lists(values_of(data_type), min_size=count, max_size=count)))
    (part,) = cut([len(raw)], [raw[:3], raw[3:]])
    values = column(one, rows, part)
    assert not isinstance(values, list)
    text = dumps_finite(values) if finite(values) else dumps(values)
    tensor = tensor_of("x", data_type, loads(memoryview(text)))
    assert tensor.shape == (rows, *row_shape)
    # Of NaN there is one in JSON, and many in memory.
    if finite(values):
        assert bytes(tensor.data) == raw
    else:
        again = column(one, rows, memoryview(bytes(tensor.data)))
        assert repr(again.tolist()) == repr(values.tolist())  # type: ignore[union-attr]


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=6))
def test_bytes_come_back_as_they_were(elements: list[bytes]) -> None:
    raw = pack_bytes(elements)
    listed = nested(texts(memoryview(raw), name="x", base64_allowed=True), (len(elements), 1))
    tensor = tensor_of("x", DataType.BYTES, loads(memoryview(dumps_finite(listed))))
    assert (tensor.shape, bytes(tensor.data)) == ((len(elements), 1), raw)


@pytest.mark.parametrize(
    ("data_type", "values", "shape"),
    [
        (DataType.INT64, [1, 2.5], None),
        (DataType.INT8, [1, 300], None),
        (DataType.UINT32, [-1], None),
        (DataType.FP32, [[1.0], [1.0, 2.0]], None),
        (DataType.FP32, ["a"], None),
        (DataType.FP32, {"a": 1}, None),
        (DataType.INT64, ["1"], None),
        (DataType.INT64, [None], None),
        (DataType.BYTES, [1], None),
        (DataType.BYTES, [["a"], ["a", "b"]], None),
        (DataType.BYTES, [{"b64": "?"}], None),
        (DataType.FP32, [1.0, 2.0], [3]),
        (DataType.BOOL, [2], None),
    ],
)
def test_what_is_no_such_tensor_is_refused(data_type: DataType, values: object, shape: list[int] | None) -> None:
    with pytest.raises(GarbledError, match="output 'y'"):
        tensor_of("y", data_type, values, shape=shape)


def test_numbers_that_are_whole_may_be_written_as_they_like() -> None:
    assert bytes(tensor_of("y", DataType.INT64, [1.0, 2]).data) == pack(DataType.INT64, [1, 2])
    assert bytes(tensor_of("y", DataType.BOOL, [1, 0]).data) == b"\x01\x00"
    (nothing,) = [tensor_of("y", DataType.FP32, [None])]
    assert bytes(nothing.data) == pack(DataType.FP32, [float("nan")])
