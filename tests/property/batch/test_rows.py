"""A value either becomes exactly what the feature means or its row is named: nothing is altered in silence."""

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.rows import encode_column
from services.common.schema import DataType, TensorSpec

numeric = st.sampled_from(
    [kind for kind in DataType if kind.is_integer or kind in (DataType.FP16, DataType.FP32, DataType.FP64)]
)
numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-300, 300).map(round).map(float),
)
odd = st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.lists(st.integers(), max_size=2))


def fits(value: object, kind: DataType) -> bool:
    """Whether a feature of this type has a place for a value, by the meaning of the types and not by the code."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if kind.is_float:
        if isinstance(value, float) and not math.isfinite(value):
            return True
        about = np.finfo(kind.numpy_name)
        largest = Fraction(float(about.max))
        # What rounds to the largest number still is that number.
        spacing = largest - Fraction(float(np.nextafter(about.max, about.dtype.type(0))))
        return abs(Fraction(value)) < largest + spacing / 2
    limits = np.iinfo(kind.numpy_name)
    if isinstance(value, float) and (not math.isfinite(value) or value != int(value) or abs(value) > 2**53):
        return False
    return int(limits.min) <= int(value) <= int(limits.max)


def check(tensor: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", values: list[object], kind: DataType) -> None:
    for got, value in zip(tensor.tolist(), values, strict=True):
        assert isinstance(value, int | float)
        if kind.is_integer:
            assert got == value
        else:
            with np.errstate(over="ignore"):
                expected = np.array(float(value)).astype(kind.numpy_name)
            assert np.array_equal(np.array(got).astype(kind.numpy_name), expected, equal_nan=True)


@given(kind=numeric, values=st.lists(st.one_of(numbers, odd), min_size=1, max_size=12))
def test_json_values(kind: DataType, values: list[object]) -> None:
    tensor, wrong = encode_column(values, TensorSpec("x", kind), "x")
    assert tensor.dtype == np.dtype(kind.numpy_name)
    assert set(wrong) == {place for place, value in enumerate(values) if not fits(value, kind)}
    good = [place for place in range(len(values)) if place not in wrong]
    check(tensor[good], [values[place] for place in good], kind)
    for place, message in wrong.items():
        assert "column 'x'" in message
        assert kind.value in message
        assert values[place] is not None or "None" in message


@given(kind=numeric, values=st.lists(numbers, min_size=1, max_size=12))
def test_text_means_what_the_number_means(kind: DataType, values: list[int | float]) -> None:
    column = pa.array([repr(value) for value in values])
    tensor, wrong = encode_column(column, TensorSpec("x", kind), "x")
    # Text of a whole number beyond 2**53 is exact as an integer and refused as anything else.
    expected = {place for place, value in enumerate(values) if not fits(value, kind)}
    assert set(wrong) == expected
    good = [place for place in range(len(values)) if place not in wrong]
    check(tensor[good], [values[place] for place in good], kind)


@given(
    values=st.lists(st.one_of(st.none(), st.text(max_size=8)), min_size=1, max_size=12),
    allowed=st.none() | st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True),
)
def test_texts(values: list[str | None], allowed: list[str] | None) -> None:
    spec = TensorSpec("x", DataType.BYTES, categories=tuple(allowed or ()))
    for column in (values, pa.array(values, type=pa.string())):
        tensor, wrong = encode_column(column, spec, "x")
        expected = {place for place, value in enumerate(values) if value is None or (allowed and value not in allowed)}
        assert set(wrong) == expected
        assert [tensor[place] for place in range(len(values)) if place not in wrong] == [
            value for place, value in enumerate(values) if place not in expected
        ]


@given(
    rows=st.lists(
        st.one_of(
            st.lists(st.floats(-10, 10), min_size=3, max_size=3),
            st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=4),
            st.none(),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_lists_and_their_text(rows: list[list[float | None] | None]) -> None:
    spec = TensorSpec("X", DataType.FP64, (3,), minimum=-5)
    expected = {
        place
        for place, row in enumerate(rows)
        if row is None or len(row) != 3 or any(item is None or item < -5 for item in row)
    }
    arrow = pa.array(rows, type=pa.list_(pa.float64()))
    text = pa.array([None if row is None else repr(row).replace("None", "null") for row in rows], type=pa.string())
    for column in (rows, arrow, text):
        tensor, wrong = encode_column(column, spec, "X")
        assert tensor.shape == (len(rows), 3)
        assert set(wrong) == expected
        for place, row in enumerate(rows):
            if place not in expected:
                assert tensor[place].tolist() == row
