"""Instances against schemas: what is taken, and what is said of what is not."""

import struct
from typing import Any

import pytest

from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.serving import ServedVersion
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec

NUMBERS = [item for item in DataType if item not in (DataType.BOOL, DataType.BYTES)]
CODES = {
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip


def plan(*specs: TensorSpec) -> InstancePlan:
    return InstancePlan(ServedVersion("digits", "v1.0.0", "main", ModelSchema(specs, ())))


def one(spec: TensorSpec, *values: Any) -> tuple[tuple[int, ...], bytes]:
    """Shape and bytes of the tensor that these rows of one feature make."""
    [tensor] = plan(spec).tensors([{spec.name: value} for value in values])
    assert tensor.data_type is spec.data_type
    return tensor.shape, bytes(tensor.data)


def refused(made: InstancePlan, *rows: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(MeshError) as caught:
        made.tensors(rows)
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    said = {item.field: item.description for item in caught.value.violations}
    assert all(path in caught.value.message for path in list(said)[:4])
    return said


@pytest.mark.parametrize("data_type", [item for item in NUMBERS if item is not DataType.BF16])
def test_every_numeric_type_takes_scalars_and_lists(data_type: DataType) -> None:
    code = CODES[data_type.value]
    assert one(TensorSpec("f", data_type), 3, 4) == ((2,), struct.pack(f"<2{code}", 3, 4))
    assert one(TensorSpec("f", data_type, (3,)), [1, 2, 3]) == ((1, 3), struct.pack(f"<3{code}", 1, 2, 3))
    nested = TensorSpec("f", data_type, (2, 2))
    expected = ((1, 2, 2), struct.pack(f"<4{code}", 1, 2, 3, 4))
    assert one(nested, [[1, 2], [3, 4]]) == expected
    assert one(nested, [1, 2, 3, 4]) == expected


def test_bfloat16_rounds_to_nearest_even_and_keeps_nan() -> None:
    spec = TensorSpec("f", DataType.BF16, (4,))
    # 1 + 2^-8 lies between 1 and 1 + 2^-7: the even one wins. 1 + 3·2^-8 goes up.
    assert one(spec, [1.0, 1 + 2**-8, 1 + 3 * 2**-8, float("nan")])[1] == struct.pack(
        "<4H", 0x3F80, 0x3F80, 0x3F82, 0x7FC0
    )


def test_truth_values_and_texts() -> None:
    assert one(TensorSpec("f", DataType.BOOL, (3,)), [True, False, True]) == ((1, 3), b"\1\0\1")
    assert one(TensorSpec("f", DataType.BYTES), "é", b"\xff") == ((2,), b"\2\0\0\0\xc3\xa9\1\0\0\0\xff")


@pytest.mark.parametrize("data_type", [item for item in NUMBERS if item.is_integer])
def test_a_whole_float_is_an_integer_and_a_fraction_is_not(data_type: DataType) -> None:
    spec = TensorSpec("f", data_type)
    assert one(spec, 7.0) == one(spec, 7)
    assert refused(plan(spec), {"f": 7.5}) == {"instances[0].f": f"expected {data_type.value}, got 7.5"}


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        (DataType.UINT8, 256),
        (DataType.UINT8, -1),
        (DataType.INT8, 128),
        (DataType.INT32, 2**31),
        (DataType.INT64, 2**63),
        (DataType.UINT64, -1),
        (DataType.FP16, 70_000),
        (DataType.FP32, 1e39),
        (DataType.FP64, 10**400),
        (DataType.FP32, "1"),
        (DataType.FP32, True),
        (DataType.INT64, True),
        (DataType.BOOL, 1),
        (DataType.BOOL, "true"),
        (DataType.BYTES, 5),
    ],
)
def test_what_does_not_fit_is_refused_and_never_wrapped_around(data_type: DataType, value: object) -> None:
    [description] = refused(plan(TensorSpec("f", data_type)), {"f": value}).values()
    assert "expected" in description
    assert data_type.value in description


def test_the_number_of_values_is_said() -> None:
    spec = TensorSpec("X", DataType.FP32, (64,))
    good = {"X": [0.0] * 64}
    assert refused(plan(spec), good, good, {"X": [1.0, 2.0]}) == {"instances[2].X": "expected 64 values of FP32, got 2"}
    assert refused(plan(spec), {"X": 1.0}) == {"instances[0].X": "expected 64 values of FP32, got 1.0"}
    assert "null" in refused(plan(spec), {"X": None})["instances[0].X"]
    assert "an object" in refused(plan(spec), {"X": {"a": 1}})["instances[0].X"]
    assert "different lengths" in refused(plan(spec), {"X": [[1.0], [1.0, 2.0]]})["instances[0].X"]


def test_the_element_that_is_wrong_is_named() -> None:
    said = refused(plan(TensorSpec("X", DataType.FP32, (3,))), {"X": [1.0, "black", None]})
    assert said == {
        "instances[0].X[1]": "expected FP32, got 'black'",
        "instances[0].X[2]": "expected FP32, got null",
    }


def test_unknown_and_missing_features_are_named_and_what_there_is() -> None:
    said = refused(plan(TensorSpec("a", DataType.FP32), TensorSpec("b", DataType.INT64)), {"a": 1.0, "c": 2})
    assert said["instances[0].c"] == "is no feature; the features are a FP32, b INT64"
    assert said["instances[0].b"] == "is missing; expected one value of INT64"


def test_ranges_hold_at_their_ends_and_nan_fits_none() -> None:
    spec = TensorSpec("f", DataType.FP64, minimum=0.0, maximum=1.0)
    assert one(spec, 0.0, 1) == ((2,), struct.pack("<2d", 0, 1))
    assert refused(plan(spec), {"f": 1.01}) == {"instances[0].f": "is 1.01; allowed: 0 to 1"}
    assert refused(plan(spec), {"f": float("nan")}) == {"instances[0].f": "is nan; allowed: 0 to 1"}
    assert refused(plan(TensorSpec("f", DataType.INT64, minimum=2)), {"f": 1}) == {
        "instances[0].f": "is 1; allowed: at least 2"
    }


def test_categories_name_what_is_allowed() -> None:
    spec = TensorSpec("f", DataType.BYTES, categories=("red", "green"))
    assert one(spec, "red")[1] == b"\3\0\0\0red"
    assert refused(plan(spec), {"f": "blue"}) == {"instances[0].f": "is 'blue'; allowed: red, green"}


def test_defaults_stand_in_for_what_was_left_out() -> None:
    spec = TensorSpec("f", DataType.FP32, (2,), optional=True, default_json="[0.5, 1]")
    made = plan(TensorSpec("x", DataType.FP32), spec)
    tensors = made.tensors([{"x": 1.0}, {"x": 2.0, "f": [3.0, 4.0]}, {"x": 3.0, "f": None}])
    assert tensors[1].shape == (3, 2)
    assert struct.unpack("<6f", tensors[1].data) == (0.5, 1, 3, 4, 0.5, 1)


def test_an_optional_feature_without_default_is_given_everywhere_or_nowhere() -> None:
    made = plan(TensorSpec("x", DataType.FP32), TensorSpec("f", DataType.FP32, optional=True))
    assert [tensor.name for tensor in made.tensors([{"x": 1.0}, {"x": 2.0}])] == ["x"]
    assert [tensor.name for tensor in made.tensors([{"x": 1.0, "f": 1.0}])] == ["x", "f"]
    assert "in every instance or in none" in refused(made, {"x": 1.0, "f": 1.0}, {"x": 1.0})["instances[1].f"]


def test_open_dimensions_follow_from_what_is_given() -> None:
    spec = TensorSpec("f", DataType.FP32, (-1, 2))
    assert one(spec, [1, 2, 3, 4])[0] == (1, 2, 2)
    assert one(spec, [[1, 2]])[0] == (1, 1, 2)
    assert "values of FP32[any,2], got 3" in refused(plan(spec), {"f": [1, 2, 3]})["instances[0].f"]
    assert "rows of one size" in refused(plan(spec), {"f": [1, 2]}, {"f": [1, 2, 3, 4]})["instances[1].f"]
    assert one(TensorSpec("f", DataType.FP32, (-1, -1)), [[1, 2, 3]])[0] == (1, 1, 3)
    assert refused(plan(TensorSpec("f", DataType.FP32, (-1, -1))), {"f": [1, 2, 3]})


def test_one_answer_names_a_bounded_number_of_faults() -> None:
    with pytest.raises(MeshError) as caught:
        plan(TensorSpec("f", DataType.FP32)).tensors([{"f": "no"}] * 1000)
    assert len(caught.value.violations) == 16
    assert len(caught.value.message) < 1000
