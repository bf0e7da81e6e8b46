"""The quick and the careful way of reading instances agree; whatever form a value has, it is the same tensor."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.instances import FeaturePlan, InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.schema_check import VIOLATIONS_MAX, Violations
from services.batcher.domain.tensors import Value, pack, unpack
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec
from tests.support.batcher_faces_values import limits_of, values_of, version_of

SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
JUNK = st.sampled_from([None, True, 0, -1, 2**70, 0.5, 1e39, "text", b"bytes", [], [1], [[1], [2]], {}, {"a": 1}])


def tried(plan: InstancePlan, rows: list[dict[str, object]]) -> tuple[tuple[Tensor, ...], MeshError | None]:
    try:
        return plan.tensors(rows), None
    except MeshError as error:
        return (), error


def nested(values: list[Value], shape: tuple[int, ...]) -> object:
    if not shape:
        return values[0]
    step = prod(shape[1:])
    return [nested(values[at * step : (at + 1) * step], shape[1:]) for at in range(shape[0])]


@pytest.mark.parametrize("data_type", list(DataType))
@given(data=st.data(), shape=SHAPES, rows=st.integers(1, 3))
def test_nested_and_flat_rows_are_one_tensor_by_either_way(
    data_type: DataType, data: st.DataObject, shape: tuple[int, ...], rows: int
) -> None:
    count = prod(shape)
    values = data.draw(st.lists(values_of(data_type), min_size=rows * count, max_size=rows * count))
    lines = [values[row * count : (row + 1) * count] for row in range(rows)]
    as_nest = [{"x": nested(line, shape)} for line in lines]
    as_list = [{"x": line if shape else line[0]} for line in lines]
    plan = InstancePlan(version_of(TensorSpec("x", data_type, shape)))
    (tensor,) = plan.tensors(as_nest)
    assert tensor.shape == (rows, *shape)
    assert tensor.data == pack(data_type, values)
    assert plan.tensors(as_list) == (tensor,)
    assert plan.features[0].careful(as_list, Violations(), "instances") == (shape, tensor.data)
    open_shape = tuple(-1 if place == 0 else size for place, size in enumerate(shape))
    (opened,) = InstancePlan(version_of(TensorSpec("x", data_type, open_shape))).tensors(as_list)
    assert (opened.shape, opened.data) == (tensor.shape, tensor.data)


@pytest.mark.parametrize("data_type", list(DataType))
@given(data=st.data(), shape=SHAPES)
def test_what_the_quick_way_takes_the_careful_way_takes_alike(
    data_type: DataType, data: st.DataObject, shape: tuple[int, ...]
) -> None:
    spec = data.draw(_limited(data_type, shape))
    feature = FeaturePlan(spec)
    element = values_of(data_type) | JUNK
    value = data.draw(st.lists(element, min_size=feature.count, max_size=feature.count) | JUNK if shape else element)
    quick = feature.quick([value])
    violations = Violations()
    careful = feature.careful([{"x": value}], violations, "instances")
    if quick is not None:
        assert careful == (shape, quick)
    assert (careful is None) == bool(violations.found)


@given(st.data())
def test_the_row_and_the_feature_that_are_wrong_are_named(data: st.DataObject) -> None:
    rows = [{"a": 1, "b": "x", "c": [1.0, 2.0]} for _ in range(data.draw(st.integers(1, 40)))]
    place = data.draw(st.integers(0, len(rows) - 1))
    name, wrong = data.draw(
        st.sampled_from([("a", 1.5), ("a", "1"), ("a", True), ("b", 1), ("c", [1.0]), ("c", "no"), ("c", None)])
    )
    rows[place][name] = wrong
    plan = InstancePlan(
        version_of(
            TensorSpec("a", DataType.INT32), TensorSpec("b", DataType.BYTES), TensorSpec("c", DataType.FP32, (2,))
        )
    )
    with pytest.raises(MeshError) as caught:
        plan.tensors(rows)
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    assert [item.field for item in caught.value.violations] == [f"instances[{place}].{name}"]
    assert any(said in caught.value.message for said in ("expected", "null"))


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), JUNK, max_size=4), min_size=1, max_size=60))
def test_any_rows_are_tensors_or_a_bounded_refusal(rows: list[dict[str, object]]) -> None:
    plan = InstancePlan(
        version_of(
            TensorSpec("a", DataType.INT8),
            TensorSpec("b", DataType.BYTES, (-1,), optional=True),
            TensorSpec("c", DataType.FP16, optional=True, default_json="0.5", minimum=0.0),
        )
    )
    tensors, refusal = tried(plan, rows)
    if refusal is not None:
        assert refusal.reason is Reason.SCHEMA_VIOLATION
        assert 1 <= len(refusal.violations) <= VIOLATIONS_MAX
        assert len(refusal.message) < 4000
    assert all(tensor.shape[0] == len(rows) for tensor in tensors)
    assert all(len(unpack(tensor.data_type, tensor.data)) == prod(tensor.shape) for tensor in tensors)


@given(st.integers(-(2**70), 2**70), st.sampled_from([item for item in DataType if item.is_integer]))
def test_a_whole_number_is_kept_exactly_or_refused(number: int, data_type: DataType) -> None:
    plan = InstancePlan(version_of(TensorSpec("x", data_type)))
    low, high = limits_of(data_type)
    tensors, refusal = tried(plan, [{"x": number}])
    assert (refusal is None) == (low <= number <= high)
    assert all(unpack(data_type, tensor.data) == [number] for tensor in tensors)


def _limited(data_type: DataType, shape: tuple[int, ...]) -> st.SearchStrategy[TensorSpec]:
    plain = TensorSpec("x", data_type, shape)
    if data_type is DataType.BYTES:
        return st.sampled_from([plain, TensorSpec("x", data_type, shape, categories=("text", "other"))])
    if data_type is DataType.BOOL:
        return st.just(plain)
    return st.sampled_from(
        [plain, TensorSpec("x", data_type, shape, minimum=0.0), TensorSpec("x", data_type, shape, maximum=0.1)]
    )
