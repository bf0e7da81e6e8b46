"""Elements of every type between Python and bytes, at their edges."""

import math
import struct

import pytest

from services.batcher.domain.tensors import as_array, count_of, pack, shape_text, split_bytes, unpack
from services.common.schema import DataType, TensorSpec
from tests.support.batcher_faces_values import largest_of, limits_of

INTEGERS = [item for item in DataType if item.is_integer]
NARROW_FLOATS = [DataType.FP16, DataType.BF16, DataType.FP32]


@pytest.mark.parametrize("data_type", INTEGERS)
def test_an_integer_beyond_its_type_is_refused_and_never_wrapped_around(data_type: DataType) -> None:
    low, high = limits_of(data_type)
    assert unpack(data_type, pack(data_type, (low, high))) == [low, high]
    for outside in (low - 1, high + 1):
        with pytest.raises((struct.error, OverflowError)):
            pack(data_type, (outside,))


@pytest.mark.parametrize("data_type", NARROW_FLOATS)
def test_a_number_beyond_a_float_type_is_refused_and_never_becomes_infinity(data_type: DataType) -> None:
    largest = largest_of(data_type)
    assert unpack(data_type, pack(data_type, (largest, -largest))) == [largest, -largest]
    # So little beyond that bfloat16 would round a number to infinity that single precision still holds.
    for outside in (largest * 1.003, -largest * 1.003):
        with pytest.raises(OverflowError):
            pack(data_type, (outside,))


@pytest.mark.parametrize("data_type", [*NARROW_FLOATS, DataType.FP64])
def test_infinities_and_nan_keep_what_they_are(data_type: DataType) -> None:
    low, high, nan = unpack(data_type, pack(data_type, (-math.inf, math.inf, math.nan)))
    assert (low, high) == (-math.inf, math.inf)
    assert isinstance(nan, float)
    assert math.isnan(nan)


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (1.0 + 2**-8, 0x3F80),  # half way: to the even one
        (1.0 + 3 * 2**-8, 0x3F82),
        (1.0 + 2**-8 + 2**-20, 0x3F81),
        (-0.0, 0x8000),
    ],
)
def test_bfloat16_rounds_to_the_nearest_and_halves_to_even(value: float, bits: int) -> None:
    assert pack(DataType.BF16, (value,)) == bits.to_bytes(2, "little")


@pytest.mark.parametrize("data_type", list(DataType))
def test_no_elements_are_no_bytes(data_type: DataType) -> None:
    assert pack(data_type, ()) == b""
    assert unpack(data_type, b"") == []


@pytest.mark.parametrize("data_type", [item for item in DataType if item.size_bytes > 1])
def test_bytes_that_are_cut_short_are_an_error(data_type: DataType) -> None:
    with pytest.raises((struct.error, ValueError)):
        unpack(data_type, b"\0" * (data_type.size_bytes * 2 - 1))


@pytest.mark.parametrize("data", [b"\x01", b"\x01\0\0", b"\x02\0\0\0a", b"\0\0\0\0\x01", b"\xff\xff\xff\xffabc"])
def test_texts_whose_lengths_point_beyond_the_end_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="ends at byte"):
        split_bytes(data)


def test_texts_are_utf8_behind_their_lengths() -> None:
    assert pack(DataType.BYTES, ("é", b"\xff", "")) == b"\x02\0\0\0\xc3\xa9\x01\0\0\0\xff\0\0\0\0"


def test_a_number_is_no_text() -> None:
    with pytest.raises(TypeError):
        pack(DataType.BYTES, (1,))


def test_views_are_read_like_bytes() -> None:
    assert as_array(DataType.BF16, memoryview(b"\x80\x3f")).tolist() == [1.0]
    assert split_bytes(memoryview(b"\x01\0\0\0a")) == [b"a"]


def test_shapes_are_told_to_people() -> None:
    assert shape_text(TensorSpec("x", DataType.FP32)) == "FP32"
    assert shape_text(TensorSpec("x", DataType.INT64, (-1, 3))) == "INT64[any,3]"
    assert (count_of(()), count_of((2, 3)), count_of((-1, 3))) == (1, 6, -1)
