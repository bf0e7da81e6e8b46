"""Instances and tensors are held to one schema: what the one check takes the other takes, to the same bytes."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.tensor_check import TensorPlan
from services.batcher.domain.tensors import Value
from services.common.errors import MeshError
from services.common.schema import DataType, TensorSpec
from tests.support.batcher_faces_values import NUMBER_TYPES, tensor_of, values_of, version_of

LIMITS = st.none() | st.floats(allow_nan=False) | st.integers(-300, 300).map(float) | st.just(2.0**53)

# With the letter that stands in for bytes that are no text.
CATEGORIES = st.lists(st.just("\ufffd") | st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=4)


def by_both(spec: TensorSpec, value: Value) -> tuple[Tensor | None, Tensor | None]:
    """The tensor of one row by either check; None where it is refused."""
    plan = InstancePlan(version_of(spec))
    try:
        instance = plan.tensors([{spec.name: value}])[0]
    except MeshError:
        instance = None
    try:
        tensor = TensorPlan(plan.served, plan.features).checked([tensor_of(spec.name, spec.data_type, (1,), [value])])
    except MeshError:
        return instance, None
    return instance, tensor[1][0]


@pytest.mark.parametrize("data_type", NUMBER_TYPES)
@given(low=LIMITS, high=LIMITS, data=st.data())
def test_ranges_hold_alike(data_type: DataType, low: float | None, high: float | None, data: st.DataObject) -> None:
    near = [int(limit) + step for limit in (low, high) if limit and abs(limit) < 2**62 for step in (-1, 0, 1)]
    value = data.draw(st.sampled_from(near) if near and data_type is DataType.INT64 else values_of(data_type))
    instance, tensor = by_both(TensorSpec("x", data_type, minimum=low, maximum=high), value)
    assert instance == tensor


@given(number=st.integers(-3, 3), limit=st.sampled_from([2.0**53, -(2.0**53), 2.0**62]))
@example(number=1, limit=2.0**53)
def test_whole_numbers_beyond_double_precision_are_held_to_their_limit(number: int, limit: float) -> None:
    value = int(limit) + number
    for spec, fits in (
        (TensorSpec("x", DataType.INT64, minimum=limit), value >= limit),
        (TensorSpec("x", DataType.INT64, maximum=limit), value <= limit),
    ):
        assert [made is not None for made in by_both(spec, value)] == [fits, fits]


@pytest.mark.parametrize("data_type", [item for item in NUMBER_TYPES if item.is_float])
def test_nan_is_in_no_range_and_in_no_range_means_none(data_type: DataType) -> None:
    assert by_both(TensorSpec("x", data_type, minimum=-math.inf), math.nan) == (None, None)
    assert None not in by_both(TensorSpec("x", data_type), math.nan)


@given(CATEGORIES, st.data())
def test_categories_hold_alike(categories: list[str], data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(categories) | st.just(b"\xff") | values_of(DataType.BYTES))
    spec = TensorSpec("x", DataType.BYTES, categories=tuple(categories))
    instance, tensor = by_both(spec, value)
    assert instance == tensor
    given_bytes = value if isinstance(value, bytes) else str(value).encode()
    assert (instance is not None) == (given_bytes in [category.encode() for category in categories])
