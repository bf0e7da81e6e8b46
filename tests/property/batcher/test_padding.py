"""Rows of different sizes in one batch: whatever the shapes and types, each keeps its values, what is filled in is what
was stated, and what comes back is cut to what would have come back alone."""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batcher.domain.padding import BATCH_BYTES_MAX, Buckets, PaddedBatch, PaddingPlan
from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.rows import split_outputs
from services.batcher.domain.serving import Padding, ServedVersion
from services.batcher.domain.tensors import pack, unpack
from services.common.schema import DataType, ModelSchema, TensorSpec
from tests.unit.batcher.test_rows import NOBODY

Array = npt.NDArray[Any]
FREE = Padding(value=7, waste_max=0.99, trim_outputs=("y",))
types = st.sampled_from((DataType.FP32, DataType.INT64, DataType.UINT8, DataType.BF16, DataType.BYTES, DataType.FP16))
shapes = st.sampled_from(((-1,), (-1, 3), (-1, -1), (2, -1), (-1, 2, -1), (3, -1, 2)))


def element(data_type: DataType, number: int) -> object:
    return b"t" * (number % 5) if data_type is DataType.BYTES else number % 100


def tensor(name: str, data_type: DataType, shape: tuple[int, ...], start: int = 1) -> Tensor:
    """Elements that count up."""
    count = int(np.prod(shape))
    values = [element(data_type, start + at) for at in range(count)]
    return Tensor(name, data_type, shape, pack(data_type, values))  # type: ignore[arg-type]


def array(one: Tensor) -> Array:
    elements = np.empty(int(np.prod(one.shape)), object)
    elements[:] = unpack(one.data_type, one.data)
    return elements.reshape(one.shape)


def version(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...] = (), *, padding: Padding = FREE
) -> ServedVersion:
    return ServedVersion("m", "v1.0.0", "d", ModelSchema(inputs, outputs or (TensorSpec("y", DataType.FP32),)))


def request(served: ServedVersion, *inputs: Tensor) -> InferRequest:
    return InferRequest(served, inputs[0].shape[0], inputs, 1.0)


def waiter(one: InferRequest) -> Waiter:
    return Waiter(NOBODY, one.inputs, one.rows, arrived_s=0, deadline_s=9, size=0)


def padded_inputs(batch: PaddedBatch, rows: int) -> dict[str, Array]:
    """What the model gets."""
    data, at, found = b"".join(batch.buffers), 0, {}
    for one, size in zip(batch.inputs, batch.sizes, strict=True):
        found[one.name] = array(Tensor(one.name, one.data_type, (rows, *one.row_shape), data[at : at + size]))
        at += size
    assert at == len(data)
    return found


@st.composite
def joined(draw: st.DrawFn) -> tuple[TensorSpec, list[InferRequest]]:
    spec = TensorSpec("x", draw(types), draw(shapes))
    served = version((spec,), (TensorSpec("y", spec.data_type, spec.shape),))
    requests = []
    for at in range(draw(st.integers(1, 5))):
        row_shape = [draw(st.integers(1, 6)) if size < 0 else size for size in spec.shape]
        requests.append(request(served, tensor("x", spec.data_type, (draw(st.integers(1, 3)), *row_shape), at * 1000)))
    return spec, requests


@given(joined())
@settings(max_examples=200, deadline=None)
def test_every_row_keeps_its_values_and_the_rest_is_filled(made: tuple[TensorSpec, list[InferRequest]]) -> None:
    spec, requests = made
    plan = PaddingPlan(requests[0], FREE)
    members = [waiter(one) for one in requests]
    rows = sum(one.rows for one in requests)
    batch = plan.pad(members, rows)
    got = padded_inputs(batch, rows)["x"]
    longest = [max(one.inputs[0].shape[axis] for one in requests) for axis in range(1, len(spec.shape) + 1)]
    assert list(got.shape[1:]) == longest
    filler = b"" if spec.data_type is DataType.BYTES else 7
    at = 0
    for one in requests:
        mine = array(one.inputs[0])
        part = got[at : at + one.rows]
        inside = tuple(slice(0, size) for size in mine.shape)
        assert (part[inside] == mine).all()
        outside = np.ones(part.shape, bool)
        outside[inside] = False
        assert (part[outside] == filler).all()
        at += one.rows
    echoed = Tensor("y", spec.data_type, (rows, *batch.inputs[0].row_shape), b"".join(batch.buffers))
    results = split_outputs([echoed], [one.rows for one in requests], rows)
    plan.trim(results, batch.fill)
    for one, result in zip(requests, results, strict=True):
        assert result.outputs[0].shape == one.inputs[0].shape
        assert bytes(result.outputs[0].data) == bytes(one.inputs[0].data)


@given(joined())
@settings(max_examples=100, deadline=None)
def test_sums_of_rows_filled_with_zeros_are_those_of_the_rows_alone(
    made: tuple[TensorSpec, list[InferRequest]],
) -> None:
    spec, requests = made
    if spec.data_type is DataType.BYTES:
        return
    plan = PaddingPlan(requests[0], Padding(waste_max=0.99))
    rows = sum(one.rows for one in requests)
    together = padded_inputs(plan.pad([waiter(one) for one in requests], rows), rows)["x"]
    alone = [array(one.inputs[0]) for one in requests]
    sums = [row.sum() for row in together]
    assert sums == [row.sum() for part in alone for row in part]


@given(waste_max=st.floats(0.01, 0.95), sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=20))
def test_sizes_of_one_bucket_waste_no_more_than_allowed(waste_max: float, sizes: list[int]) -> None:
    buckets = Buckets(1.0 / (1.0 - waste_max))
    ceilings = [buckets.ceiling(size) for size in sizes]
    assert all(size <= ceiling for size, ceiling in zip(sizes, ceilings, strict=True))
    for (one, a), (other, b) in product(zip(sizes, ceilings, strict=True), repeat=2):
        assert (a <= b) or one > other, "ceilings follow sizes"
        if a == b and max(one, other):
            assert 1 - min(one, other) / max(one, other) <= waste_max + 1e-9


@given(height=st.integers(1, 500), width=st.integers(1, 500), waste_max=st.floats(0.05, 0.9))
def test_two_variable_dimensions_together_waste_no_more_than_allowed(height: int, width: int, waste_max: float) -> None:
    served = version((TensorSpec("x", DataType.UINT8, (-1, -1)),))
    padding = Padding(waste_max=waste_max)
    plan = PaddingPlan(request(served, Tensor("x", DataType.UINT8, (1, height, width), b"")), padding)
    worst = plan.shape.inputs[0].row_shape
    low = [height, width]
    # The smallest row that has the same key shares a batch with the largest one.
    for axis in (0, 1):
        while low[axis] > 1:
            smaller = [*low]
            smaller[axis] -= 1
            other = request(served, Tensor("x", DataType.UINT8, (1, *smaller), b""))
            if PaddingPlan(other, padding).key != plan.key:
                break
            low = smaller
    assert 1 - (low[0] * low[1]) / (worst[0] * worst[1]) <= waste_max + 1e-9


class TestPlan:
    LENGTHS = TensorSpec("lengths", DataType.INT32, (1,), optional=True)
    IDS = TensorSpec("ids", DataType.INT64, (-1,))
    MASK = TensorSpec("mask", DataType.INT64, (-1,))

    def ids(self, count: int, rows: int = 1) -> Tensor:
        return tensor("ids", DataType.INT64, (rows, count))

    def mask(self, count: int, rows: int = 1) -> Tensor:
        return Tensor("mask", DataType.INT64, (rows, count), pack(DataType.INT64, [1] * (rows * count)))

    def test_inputs_have_values_of_their_own_and_the_model_is_told_the_lengths(self) -> None:
        served = version((self.IDS, self.MASK, self.LENGTHS))
        padding = Padding(value=9, input_values=(("mask", 0),), lengths_input="lengths", waste_max=0.99)
        requests = [request(served, self.ids(2), self.mask(2)), request(served, self.ids(3, 2), self.mask(3, 2))]
        plan = PaddingPlan(requests[0], padding)
        got = padded_inputs(plan.pad([waiter(one) for one in requests], 3), 3)
        assert got["ids"].tolist() == [[1, 2, 9], [1, 2, 3], [4, 5, 6]]
        assert got["mask"].tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
        assert got["lengths"].tolist() == [[2], [3], [3]]

    def test_lengths_that_a_caller_sends_are_not_used(self) -> None:
        served = version((self.LENGTHS, self.IDS))
        padding = Padding(lengths_input="lengths")
        sent = request(served, Tensor("lengths", DataType.INT32, (1, 1), pack(DataType.INT32, [99])), self.ids(2))
        plan = PaddingPlan(sent, padding)
        assert plan.row_bytes == (4, -1)
        got = padded_inputs(plan.pad([waiter(sent)], 1), 1)
        assert got["lengths"].tolist() == [[2]]
        assert plan.key != PaddingPlan(request(served, self.ids(2)), padding).key

    def test_only_the_sizes_may_differ(self) -> None:
        served = version((self.IDS,))
        near, far = request(served, self.ids(50)), request(served, self.ids(60))
        assert PaddingPlan(near, Padding()).key == PaddingPlan(far, Padding()).key
        assert PaddingPlan(near, Padding(waste_max=0.0)).key != PaddingPlan(far, Padding(waste_max=0.0)).key
        told = InferRequest(served, 1, far.inputs, 1.0, parameters=(("k", 1),))
        assert PaddingPlan(near, Padding()).key != PaddingPlan(told, Padding()).key

    @pytest.mark.parametrize(("count", "rows_max"), [(100, BATCH_BYTES_MAX // (8 * 126)), (1_500_000, 1)])
    def test_batches_stay_within_their_bytes_however_long_the_rows_are(self, count: int, rows_max: int) -> None:
        served = version((self.IDS,))
        plan = PaddingPlan(request(served, Tensor("ids", DataType.INT64, (1, count), b"")), Padding())
        assert plan.rows_max == rows_max
        longest = plan.shape.inputs[0].row_bytes
        assert plan.rows_max * longest <= BATCH_BYTES_MAX or plan.rows_max == 1

    def test_outputs_are_cut_only_where_they_have_the_size_that_was_sent(self) -> None:
        outputs = (
            TensorSpec("per_token", DataType.FP32, (-1, 2)),
            TensorSpec("other", DataType.FP32, (-1,)),
            TensorSpec("kept", DataType.FP32, (-1,)),
        )
        served = version((self.IDS,), outputs)
        padding = Padding(trim_outputs=("per_token", "other"), waste_max=0.99)
        requests = [request(served, self.ids(2)), request(served, self.ids(4))]
        plan = PaddingPlan(requests[0], padding)
        batch = plan.pad([waiter(one) for one in requests], 2)
        answer = [
            tensor("per_token", DataType.FP32, (2, 4, 2)),
            tensor("other", DataType.FP32, (2, 3)),
            tensor("kept", DataType.FP32, (2, 4)),
        ]
        results = split_outputs(answer, [1, 1], 2)
        plan.trim(results, batch.fill)
        assert [one.shape for one in results[0].outputs] == [(1, 2, 2), (1, 3), (1, 4)]
        assert unpack(DataType.FP32, results[0].outputs[0].data) == [1, 2, 3, 4]
        assert [one.shape for one in results[1].outputs] == [(1, 4, 2), (1, 3), (1, 4)]

    def test_a_version_without_variable_inputs_is_as_it_was(self) -> None:
        served = version((TensorSpec("x", DataType.FP32, (2,)),))
        one = request(served, tensor("x", DataType.FP32, (1, 2)))
        plan = PaddingPlan(one, FREE)
        batch = plan.pad([waiter(one)], 1)
        assert b"".join(batch.buffers) == one.inputs[0].data
        result = InferResult((tensor("y", DataType.FP32, (1,)),))
        plan.trim([result], batch.fill)
        assert result.outputs[0].shape == (1,)
