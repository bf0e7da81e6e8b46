"""Tensors that callers made themselves, against schemas."""

import struct
from typing import Any

import pytest

from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensor_check import TensorPlan
from services.batcher.domain.tensors import pack
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec

X = TensorSpec("x", DataType.FP32, (2,))


def plan(*specs: TensorSpec) -> TensorPlan:
    served = ServedVersion("m", "v1.0.0", "main", ModelSchema(specs, ()))
    return TensorPlan(served, InstancePlan(served).features)


def tensor(name: str, data_type: DataType, shape: tuple[int, ...], values: list[Any]) -> Tensor:
    return Tensor(name, data_type, shape, pack(data_type, values))


def refused(made: TensorPlan, *tensors: Tensor) -> dict[str, str]:
    with pytest.raises(MeshError) as caught:
        made.checked(tensors)
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    return {item.field: item.description for item in caught.value.violations}


def test_what_fits_is_handed_on_as_it_came() -> None:
    given = tensor("x", DataType.FP32, (3, 2), [1.0] * 6)
    rows, checked = plan(X).checked([given])
    assert rows == 3
    assert checked[0] is given


def test_inputs_come_in_the_schemas_order_whatever_the_callers() -> None:
    scalar = tensor("y", DataType.INT64, (1,), [5])
    rows, checked = plan(X, TensorSpec("y", DataType.INT64)).checked(
        [scalar, tensor("x", DataType.FP32, (1, 2), [1, 2])]
    )
    assert (rows, [item.name for item in checked]) == (1, ["x", "y"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (tensor("x", DataType.FP32, (1, 3), [1.0] * 3), ["[1, 3]", "[-1, 2]"]),
        (tensor("x", DataType.FP32, (2,), [1.0] * 2), ["[2]", "[-1, 2]"]),
        (tensor("x", DataType.FP64, (1, 2), [1.0] * 2), ["FP64", "FP32"]),
        (Tensor("x", DataType.FP32, (1, 2), b"\0" * 7), ["7 bytes", "8"]),
        (tensor("x", DataType.FP32, (0, 2), []), ["1 to 65536"]),
        (tensor("x", DataType.FP32, (), [1.0]), ["[]", "[-1, 2]"]),
    ],
)
def test_shape_type_and_size_are_named(given: Tensor, words: list[str]) -> None:
    description = refused(plan(X), given)["x"]
    assert all(word in description for word in words), description


def test_unknown_missing_doubled_and_uneven_inputs_are_named() -> None:
    good = tensor("x", DataType.FP32, (1, 2), [1.0] * 2)
    two = plan(X, TensorSpec("y", DataType.INT64))
    assert "no input" in refused(plan(X), good, tensor("z", DataType.FP32, (1,), [1.0]))["z"]
    assert "is missing" in refused(two, good)["y"]
    assert "twice" in refused(plan(X), good, good)["x"]
    assert "3 rows" in refused(two, good, tensor("y", DataType.INT64, (3,), [1, 2, 3]))["y"]
    assert refused(plan(X))


def test_defaults_are_repeated_for_every_row() -> None:
    spec = TensorSpec("y", DataType.INT16, (2,), optional=True, default_json="[7, 8]")
    rows, checked = plan(X, spec).checked([tensor("x", DataType.FP32, (2, 2), [1.0] * 4)])
    assert rows == 2
    assert (checked[1].shape, struct.unpack("<4h", checked[1].data)) == ((2, 2), (7, 8, 7, 8))


def test_bytes_are_counted_and_their_categories_checked() -> None:
    spec = TensorSpec("s", DataType.BYTES, categories=("red", "green"))
    assert plan(spec).checked([tensor("s", DataType.BYTES, (2,), ["red", "green"])])[0] == 2
    assert "'blue'; allowed: red, green" in refused(plan(spec), tensor("s", DataType.BYTES, (1,), ["blue"]))["s[0]"]
    assert "1 elements" in refused(plan(spec), tensor("s", DataType.BYTES, (2,), ["red"]))["s"]
    assert "length" in refused(plan(spec), Tensor("s", DataType.BYTES, (1,), b"\x09\0\0\0red"))["s"]


@pytest.mark.parametrize("value", [1.5, -0.5, float("nan")])
def test_ranges_are_checked_where_there_are_some(value: float) -> None:
    spec = TensorSpec("y", DataType.FP32, minimum=0, maximum=1)
    assert plan(spec).checked([tensor("y", DataType.FP32, (2,), [0.0, 1.0])])[0] == 2
    said = refused(plan(spec), tensor("y", DataType.FP32, (2,), [0.5, value]))
    assert said == {"y[1]": f"is {value}; allowed: 0 to 1"}
