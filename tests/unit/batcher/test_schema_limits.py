"""Limits, defaults and names at their edges: what is allowed in every precision, and what a refusal may cost."""

import itertools
import math
import struct
from collections.abc import Iterator

import pytest

from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.tensor_check import TensorPlan
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec
from tests.support.batcher_faces_values import tensor_of, version_of


def plan(*specs: TensorSpec) -> InstancePlan:
    return InstancePlan(version_of(*specs))


def tensor_plan(*specs: TensorSpec) -> TensorPlan:
    made = plan(*specs)
    return TensorPlan(made.served, made.features)


def single(value: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


@pytest.mark.parametrize("data_type", [DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64])
@pytest.mark.parametrize("limit", [0.1, 0.7, -0.1, -0.7])
def test_a_limit_itself_is_allowed_in_every_precision(data_type: DataType, limit: float) -> None:
    spec = TensorSpec("x", data_type, minimum=limit, maximum=limit)
    (made,) = plan(spec).tensors([{"x": limit}])
    rows, (same,) = tensor_plan(spec).checked([tensor_of("x", data_type, (1,), [limit])])
    assert rows == 1
    assert made.data == same.data


def test_the_limit_as_single_precision_knows_it_is_allowed_to_typed_callers() -> None:
    spec = TensorSpec("x", DataType.FP32, minimum=0.7, maximum=0.7)
    assert single(0.7) != 0.7
    assert plan(spec).tensors([{"x": single(0.7)}])[0].data == struct.pack("<f", 0.7)


def test_the_next_number_beyond_a_limit_is_refused() -> None:
    above = struct.unpack("<f", (struct.unpack("<I", struct.pack("<f", 0.1))[0] + 1).to_bytes(4, "little"))[0]
    spec = TensorSpec("x", DataType.FP32, maximum=0.1)
    with pytest.raises(MeshError, match=r"at most 0\.1"):
        plan(spec).tensors([{"x": above}])
    with pytest.raises(MeshError, match=r"at most 0\.1"):
        tensor_plan(spec).checked([tensor_of("x", DataType.FP32, (1,), [above])])


def test_a_limit_beyond_the_type_limits_nothing() -> None:
    spec = TensorSpec("x", DataType.FP16, minimum=-1e6, maximum=1e6)
    assert plan(spec).tensors([{"x": 65504.0}])[0].data == struct.pack("<e", 65504.0)


@pytest.mark.parametrize(("low", "high", "said"), [(None, 1.0, "at most 1"), (0.0, None, "at least 0")])
def test_one_sided_limits_are_told_alike_by_both_checks(low: float | None, high: float | None, said: str) -> None:
    spec = TensorSpec("x", DataType.FP32, minimum=low, maximum=high)
    for check in (
        lambda: plan(spec).tensors([{"x": math.nan}]),
        lambda: tensor_plan(spec).checked([tensor_of("x", DataType.FP32, (1,), [math.nan])]),
    ):
        with pytest.raises(MeshError) as caught:
            check()
        assert caught.value.violations[0].description == f"is nan; allowed: {said}"


def test_nan_is_the_default_of_models_that_know_a_missing_number_by_it() -> None:
    spec = TensorSpec("x", DataType.FP32, optional=True, default_json="NaN")
    (tensor,) = plan(spec).tensors([{}])
    assert math.isnan(struct.unpack("<f", tensor.data)[0])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TensorSpec("x", DataType.FP32, optional=True, default_json="{"), "JSON text"),
        (TensorSpec("x", DataType.FP32, optional=True, default_json='"a"'), "expected FP32"),
        (TensorSpec("x", DataType.INT8, optional=True, default_json="128"), "expected INT8"),
        (TensorSpec("x", DataType.FP32, (2,), optional=True, default_json="[1]"), "expected 2 values"),
        (TensorSpec("x", DataType.FP32, optional=True, default_json="null"), "is null"),
        (TensorSpec("x", DataType.FP32, optional=True, default_json="2", maximum=1.0), "at most 1"),
        (TensorSpec("x", DataType.BYTES, optional=True, default_json='"c"', categories=("a",)), "allowed: a"),
    ],
)
def test_a_default_that_does_not_fit_its_feature_is_refused_with_the_table(spec: TensorSpec, said: str) -> None:
    with pytest.raises(MeshError, match="feature x: default_value") as caught:
        plan(spec)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert said in caught.value.message


def test_a_default_nobody_may_use_is_not_looked_at() -> None:
    assert plan(TensorSpec("x", DataType.FP32, default_json="{")).tensors([{"x": 1}])[0].shape == (1,)


class LookedAt(list[Tensor]):
    """Tensors of which only the first hundred may be looked at."""

    def __iter__(self) -> Iterator[Tensor]:
        yield from itertools.islice(super().__iter__(), 100)
        raise AssertionError("more was looked at than a refusal can name")


class NamesLookedAt(dict[str, object]):
    """An instance of which only the first hundred names may be looked at."""

    def __iter__(self) -> Iterator[str]:
        yield from itertools.islice(super().__iter__(), 100)
        raise AssertionError("more was looked at than a refusal can name")


def test_many_unknown_names_are_refused_at_the_cost_of_a_few() -> None:
    row = NamesLookedAt({f"unknown{number}": 1.0 for number in range(1000)})
    with pytest.raises(MeshError) as caught:
        plan(TensorSpec("x", DataType.FP32)).tensors([row])
    assert len(caught.value.violations) == 16


def test_many_unknown_inputs_are_refused_at_the_cost_of_a_few() -> None:
    features = tuple(TensorSpec(f"feature{number}", DataType.FP32) for number in range(2000))
    unknown = LookedAt(Tensor(f"t{number}", DataType.FP32, (1,), b"\0" * 4) for number in range(1000))
    with pytest.raises(MeshError) as caught:
        tensor_plan(*features).checked(unknown)
    assert len(caught.value.violations) == 16
    assert len(caught.value.message) < 4000


def test_names_that_callers_chose_are_quoted_up_to_a_bound() -> None:
    name = "n" * 1_000_000
    with pytest.raises(MeshError) as caught:
        plan(TensorSpec("x", DataType.FP32)).tensors([{"x": 1, name: 2}])
    assert caught.value.violations[0].field == f"instances[0].{'n' * 100}…"
    with pytest.raises(MeshError) as caught:
        tensor_plan(TensorSpec("x", DataType.FP32)).checked([Tensor(name, DataType.FP32, (1,), b"\0" * 4)])
    assert caught.value.violations[0].field == f"{'n' * 100}…"


def test_rows_that_are_too_many_are_refused_before_a_default_is_repeated_for_each() -> None:
    optional = TensorSpec("y", DataType.FP32, (1000,), optional=True, default_json=str([0.5] * 1000))
    given = Tensor("x", DataType.FP32, (2**62,), b"\0" * 4)
    with pytest.raises(MeshError, match="1 to 65536"):
        tensor_plan(TensorSpec("x", DataType.FP32), optional).checked([given])


def test_a_shape_of_many_dimensions_is_quoted_up_to_a_bound() -> None:
    given = Tensor("x", DataType.FP32, (1,) * 1_000_000, b"\0" * 4)
    with pytest.raises(MeshError) as caught:
        tensor_plan(TensorSpec("x", DataType.FP32)).checked([given])
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("shape", [(-1, 2), (1, -2), (2, 3)])
def test_dimensions_that_are_negative_or_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MeshError, match="has shape"):
        tensor_plan(TensorSpec("x", DataType.FP32, (2,))).checked([Tensor("x", DataType.FP32, shape, b"\0" * 8)])


def test_features_that_fit_are_not_looked_at_again_because_of_one_that_needs_care() -> None:
    specs = (
        TensorSpec("a", DataType.FP32, (2,)),
        TensorSpec("open", DataType.INT64, (-1,)),
        TensorSpec("b", DataType.BYTES),
    )
    tensors = plan(*specs).tensors([{"a": [1, 2], "open": [7, 8, 9], "b": "x"}] * 2)
    assert [(item.name, item.shape) for item in tensors] == [("a", (2, 2)), ("open", (2, 3)), ("b", (2,))]
    assert tensors[0].data == struct.pack("<4f", 1, 2, 1, 2)
    assert tensors[1].data == struct.pack("<6q", 7, 8, 9, 7, 8, 9)
    assert tensors[2].data == b"\x01\0\0\0x" * 2
