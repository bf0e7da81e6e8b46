"""What is refused for a column's type could never have become a feature: no value of it but null."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.column_types import check_types, may_fit
from services.batch.domain.layout import FeatureColumns, Layout
from services.batch.domain.rows import encode_column
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec

LEAVES = (
    pa.int8(),
    pa.uint64(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.timestamp("us"),
    pa.date32(),
    pa.null(),
    pa.struct([("a", pa.int64())]),
)
VALUES = {
    "int8": 1,
    "uint64": 1,
    "float": 0.5,
    "double": 1.0,
    "bool": True,
    "string": "1",
    "large_string": "[1, 2]",
    "binary": b"1",
    "timestamp[us]": 5,
    "date32[day]": 5,
    "null": None,
    "struct<a: int64>": {"a": 1},
}
KINDS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(inner.map(pa.list_), inner.map(lambda one: pa.list_(one, 2)), inner.map(pa.large_list)),
    max_leaves=3,
)
SPECS = st.builds(
    TensorSpec,
    st.just("x"),
    st.sampled_from([kind for kind in DataType if kind is not DataType.BF16]),
    st.sampled_from([(), (1,), (2,), (2, 2)]),
)


def value(kind: pa.DataType, size: int) -> object:
    """One of the type; lists of free length have `size` elements."""
    if pa.types.is_fixed_size_list(kind):
        return [value(kind.value_type, size)] * kind.list_size
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [value(kind.value_type, size)] * size
    return VALUES[str(kind)]


@given(kind=KINDS, spec=SPECS, size=st.integers(0, 2))
def test_no_value_of_a_type_that_is_refused_fits(kind: pa.DataType, spec: TensorSpec, size: int) -> None:
    column = pa.array([value(kind, size), value(kind, 2)], type=kind)
    _, wrong = encode_column(column, spec, "x")
    if not may_fit(kind, spec):
        assert set(wrong) == {0, 1}


@pytest.mark.parametrize(
    ("kind", "spec", "fits"),
    [
        (pa.list_(pa.float32()), TensorSpec("x", DataType.FP32, (64,)), True),
        (pa.list_(pa.float32(), 64), TensorSpec("x", DataType.FP32, (64,)), True),
        (pa.list_(pa.float32(), 63), TensorSpec("x", DataType.FP32, (64,)), False),
        (pa.float32(), TensorSpec("x", DataType.FP32, (64,)), False),
        (pa.list_(pa.string()), TensorSpec("x", DataType.FP32, (64,)), False),
        (pa.string(), TensorSpec("x", DataType.FP32, (64,)), True),
        (pa.bool_(), TensorSpec("x", DataType.INT64), False),
        (pa.int64(), TensorSpec("x", DataType.BOOL), False),
        (pa.timestamp("us"), TensorSpec("x", DataType.INT64), False),
        (pa.decimal128(10, 2), TensorSpec("x", DataType.FP64), True),
        (pa.dictionary(pa.int32(), pa.string()), TensorSpec("x", DataType.BYTES), True),
        (pa.int64(), TensorSpec("x", DataType.BYTES), False),
    ],
)
def test_types_that_people_have(kind: pa.DataType, spec: TensorSpec, fits: bool) -> None:
    assert may_fit(kind, spec) is fits


def test_all_columns_that_cannot_fit_are_named() -> None:
    wide = TensorSpec("x", DataType.FP32, (2,))
    layout = Layout(
        "id", (FeatureColumns(wide, ("x_0", "x_1")), FeatureColumns(TensorSpec("y", DataType.BOOL), ("y",)))
    )
    check_types(layout, {})
    types = {"id": pa.int64(), "x_0": pa.float64(), "x_1": pa.list_(pa.float64()), "y": pa.int8()}
    with pytest.raises(MeshError, match=r"'x_1' is list.*; expected FP32; column 'y' is int8; expected BOOL") as error:
        check_types(layout, types)
    assert error.value.reason is Reason.INPUT_UNREADABLE
    assert "x_0" not in error.value.message
