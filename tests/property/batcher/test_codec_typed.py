"""Typed features: every kind of value, the quick way and the careful one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from infermesh.prediction.v1 import instance_pb2

from services.batcher.codec.typed import TypedReader
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.tensors import pack
from services.common.errors import MeshError
from services.common.schema import DataType, TensorSpec
from tests.support.batcher_faces_values import version_of

pb = instance_pb2
WIDTH = 4
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SINGLE = st.floats(width=32, allow_nan=False)
DOUBLE = st.floats(allow_nan=False)
FEATURES = (
    SINGLE.map(lambda value: pb.Feature(float_value=value))
    | DOUBLE.map(lambda value: pb.Feature(double_value=value))
    | INT64.map(lambda value: pb.Feature(int64_value=value))
    | TEXT.map(lambda value: pb.Feature(string_value=value))
    | st.booleans().map(lambda value: pb.Feature(bool_value=value))
    | st.binary(max_size=8).map(lambda value: pb.Feature(bytes_value=value))
    | st.lists(SINGLE, max_size=6).map(lambda values: pb.Feature(float_list=pb.FloatList(values=values)))
    | st.lists(DOUBLE, max_size=6).map(lambda values: pb.Feature(double_list=pb.DoubleList(values=values)))
    | st.lists(INT64, max_size=6).map(lambda values: pb.Feature(int_list=pb.IntList(values=values)))
    | st.lists(TEXT, max_size=6).map(lambda values: pb.Feature(string_list=pb.StringList(values=values)))
    | st.lists(st.booleans(), max_size=6).map(lambda values: pb.Feature(bool_list=pb.BoolList(values=values)))
    | st.lists(st.binary(max_size=4), max_size=6).map(lambda values: pb.Feature(bytes_list=pb.BytesList(values=values)))
    | st.just(pb.Feature())
)
LISTS_THAT_FIT = st.lists(SINGLE, min_size=WIDTH, max_size=WIDTH).map(
    lambda values: pb.Feature(float_list=pb.FloatList(values=values))
) | st.lists(DOUBLE, min_size=WIDTH, max_size=WIDTH).map(
    lambda values: pb.Feature(double_list=pb.DoubleList(values=values))
)


def plain(instance: pb.Instance) -> dict[str, object]:
    """The instance as plain values, read in the simplest way there is."""
    row: dict[str, object] = {}
    for name, feature in instance.features.items():
        kind = feature.WhichOneof("kind")
        if kind is not None:
            value = getattr(feature, kind)
            row[name] = [item for item in value.values] if hasattr(value, "values") else value  # noqa: C416
    return row


def outcome(read: object) -> tuple[tuple[Tensor, ...] | None, list[str]]:
    """The tensors, or which fields are wrong."""
    try:
        return read(), []  # type: ignore[operator]
    except MeshError as error:
        return None, [f"{item.field} {item.description}" for item in error.violations]


@pytest.mark.parametrize("data_type", [DataType.FP32, DataType.FP64])
@given(data=st.data())
def test_packed_lists_and_values_one_by_one_are_the_same_tensors(data_type: DataType, data: st.DataObject) -> None:
    names = data.draw(st.sampled_from([["a"], ["a", "b"]]))
    features = FEATURES | LISTS_THAT_FIT | LISTS_THAT_FIT
    keys = st.sampled_from(["a", "b", "c"]) if data.draw(st.booleans()) else st.sampled_from(names)
    instances = [
        pb.Instance(features=row)
        for row in data.draw(st.lists(st.dictionaries(keys, features, max_size=2), min_size=1, max_size=3))
    ]
    plan = InstancePlan(version_of(*(TensorSpec(name, data_type, (WIDTH,)) for name in names)))
    expected = outcome(lambda: plan.tensors([plain(instance) for instance in instances]))
    assert outcome(lambda: TypedReader(plan).tensors(instances)) == expected


@pytest.mark.parametrize("data_type", list(DataType))
@given(feature=FEATURES, shape=st.sampled_from([(), (WIDTH,), (-1,)]))
def test_every_kind_of_value_is_taken_by_each_type_as_its_plain_value_is(
    data_type: DataType, feature: pb.Feature, shape: tuple[int, ...]
) -> None:
    plan = InstancePlan(version_of(TensorSpec("x", data_type, shape)))
    instance = pb.Instance(features={"x": feature})
    expected = outcome(lambda: plan.tensors([plain(instance)]))
    assert outcome(lambda: TypedReader(plan).tensors([instance])) == expected


@given(st.lists(SINGLE, min_size=1, max_size=WIDTH - 1), st.binary(max_size=12))
def test_a_list_that_is_too_short_is_refused_whatever_else_its_message_holds(values: list[float], rest: bytes) -> None:
    """Fields of a later contract could make up for the bytes that are missing."""
    unknown = b"\x12" + len(rest).to_bytes(1, "little") + rest
    packed = pb.FloatList.FromString(pb.FloatList(values=values).SerializeToString() + unknown)
    plan = InstancePlan(version_of(TensorSpec("x", DataType.FP32, (WIDTH,))))
    with pytest.raises(MeshError, match=f"expected {WIDTH} values of FP32, got {len(values)}"):
        TypedReader(plan).tensors([pb.Instance(features={"x": pb.Feature(float_list=packed)})])


def test_a_list_whose_message_holds_more_is_read() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    packed = pb.FloatList.FromString(pb.FloatList(values=values).SerializeToString() + b"\x10\x01")
    plan = InstancePlan(version_of(TensorSpec("x", DataType.FP32, (WIDTH,))))
    (tensor,) = TypedReader(plan).tensors([pb.Instance(features={"x": pb.Feature(float_list=packed)})])
    assert tensor.data == pack(DataType.FP32, values)
