"""Numbers as numpy reads them, and bfloat16 as the nearest there is."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.tensors import as_array, pack, unpack
from services.common.schema import DataType
from tests.support.batcher_faces_values import NUMBER_TYPES, largest_of, values_of


@pytest.mark.parametrize("data_type", [*NUMBER_TYPES, DataType.BOOL])
@given(data=st.data())
def test_numpy_reads_what_struct_wrote(data_type: DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(values_of(data_type), max_size=20))
    assert as_array(data_type, pack(data_type, values)).tolist() == values


@given(st.floats(-largest_of(DataType.BF16), largest_of(DataType.BF16)))
def test_bfloat16_is_the_nearest_there_is(value: float) -> None:
    (single,) = struct.unpack("<f", struct.pack("<f", value))
    bits = int.from_bytes(pack(DataType.BF16, (value,)), "little")
    magnitude, sign = bits & 0x7FFF, bits & 0x8000
    near = [each | sign for each in (magnitude - 1, magnitude + 1) if 0 <= each < 0x7F80]
    distances = [abs(_value(each) - single) for each in near]
    assert abs(_value(bits) - single) <= min(distances)


def _value(bits: int) -> float:
    (value,) = unpack(DataType.BF16, bits.to_bytes(2, "little"))
    return float(value)
