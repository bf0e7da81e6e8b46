"""Rows as bytes: joined, split, checked, put together again."""

import struct

import pytest

from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import Caller, Waiter
from services.batcher.domain.request import InferResult, Parameter, Tensor
from services.batcher.domain.rows import (
    RowsError,
    check_outputs,
    gather,
    join_results,
    split_inputs,
    split_outputs,
    text_ends,
)
from services.batcher.domain.shape import CallShape, InputShape, call_shape, group_key
from services.common.schema import DataType, TensorSpec
from tests.support.batcher_engine_fakes import request, served


class Nobody:
    """A `Caller` that takes anything."""

    def done(self) -> bool:
        return False

    def set_result(self, result: InferResult, /) -> None:
        """Nothing."""

    def set_exception(self, exception: Exception, /) -> None:
        """Nothing."""


NOBODY: Caller = Nobody()


def texts(*words: str) -> bytes:
    return b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in words)


def waiter(rows: int, *data: bytes) -> Waiter:
    inputs = tuple(Tensor(f"t{index}", DataType.UINT8, (rows,), one) for index, one in enumerate(data))
    return Waiter(NOBODY, inputs, rows, arrived_s=0, deadline_s=1)


def shape(*row_bytes: int, outputs: tuple[TensorSpec, ...] = ()) -> CallShape:
    inputs = [InputShape(f"t{index}", DataType.UINT8, (), size) for index, size in enumerate(row_bytes)]
    return CallShape("m", "v1", tuple(inputs), outputs, ())


def test_data_follows_one_another_tensor_after_tensor() -> None:
    members = [waiter(1, b"a", texts("x")), waiter(2, b"bc", texts("", "yz"))]
    buffers, sizes = gather(shape(1, -1), members, 3)
    assert b"".join(buffers) == b"abc" + texts("x", "", "yz")
    assert sizes == [3, len(texts("x", "", "yz"))]


def test_one_tensor_of_text_has_the_size_of_its_text() -> None:
    assert gather(shape(-1), [waiter(1, texts("ab")), waiter(1, texts(""))], 2)[1] == [10]


@pytest.mark.parametrize("rows_max", [1, 2, 3, 4, 7, 8, 100])
def test_a_request_is_cut_and_put_together_again(rows_max: int) -> None:
    words = [f"{'w' * number}" for number in range(14)]
    inputs = (
        Tensor("n", DataType.INT16, (7, 3), bytes(range(42))),
        Tensor("s", DataType.BYTES, (7, 2), memoryview(texts(*words))),
        Tensor("nothing", DataType.FP32, (7, 0), b""),
    )
    parts = split_inputs(inputs, 7, rows_max)
    assert [rows for rows, _ in parts] == [min(rows_max, 7 - at) for at in range(0, 7, rows_max)]
    assert all(tensor.shape[0] == rows for rows, tensors in parts for tensor in tensors)
    joined = join_results([InferResult(tensors) for _, tensors in parts])
    assert [(one.name, one.data_type, one.shape, bytes(one.data)) for one in joined.outputs] == [
        (one.name, one.data_type, one.shape, bytes(one.data)) for one in inputs
    ]


def test_parts_that_differ_in_shape_are_no_whole() -> None:
    parts = [InferResult((Tensor("y", DataType.UINT8, (1, size), b"x" * size),)) for size in (2, 3)]
    with pytest.raises(RowsError, match=r"'y' has rows of the shapes \[\(2,\), \(3,\)\]"):
        join_results(parts)


@pytest.mark.parametrize("size", [4, 100_000])
def test_small_rows_are_copies_and_large_ones_are_views(size: int) -> None:
    body = memoryview(bytes(range(256)) * (3 * size // 256 + 1))[: 3 * size]
    results = split_outputs([Tensor("y", DataType.UINT8, (3, size), body)], [1, 2], 3)
    assert [bytes(result.outputs[0].data) for result in results] == [bytes(body[:size]), bytes(body[size:])]
    assert [result.outputs[0].shape for result in results] == [(1, size), (2, size)]
    assert isinstance(results[0].outputs[0].data, bytes if size < 100 else memoryview)


def test_rows_without_bytes_and_models_without_outputs() -> None:
    results = split_outputs([Tensor("y", DataType.FP32, (2, 0), b"")], [1, 1], 2)
    assert [(one.outputs[0].shape, bytes(one.outputs[0].data)) for one in results] == [((1, 0), b"")] * 2
    assert split_outputs([], [1, 1], 2) == [InferResult(()), InferResult(())]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (texts("ab", "cd")[:-1], "add up to"),
        (texts("ab"), "in the middle"),
        (texts("ab", "cd", "e"), "add up to"),
        (b"\xff\xff\xff\xff" + b"x" * 10, "in the middle"),
        (b"\1\0", "in the middle"),
    ],
)
def test_text_whose_lengths_do_not_add_up(data: bytes, why: str) -> None:
    with pytest.raises(RowsError, match=why):
        text_ends("s", data, 2)
    for counts in ([1, 1], [2]):
        with pytest.raises(RowsError, match=why):
            split_outputs([Tensor("s", DataType.BYTES, (2,), data)], counts, 2)


def test_outputs_come_in_the_order_that_was_asked_for() -> None:
    wanted = (TensorSpec("b", DataType.UINT8, (-1,)), TensorSpec("a", DataType.UINT8))
    outputs = [
        Tensor("a", DataType.UINT8, (2,), b"12"),
        Tensor("more", DataType.UINT8, (9,), b"123456789"),
        Tensor("b", DataType.UINT8, (2, 3), b"123456"),
    ]
    assert [one.name for one in check_outputs(shape(1, outputs=wanted), outputs, 2)] == ["b", "a"]
    assert check_outputs(shape(1), outputs[:1], 2) == outputs[:1], "without a schema all that comes is handed on"
    with pytest.raises(RowsError, match=r"'more' has shape \(9,\) for 2 rows"):
        check_outputs(shape(1), outputs, 2)


def test_groups_tell_apart_what_python_calls_equal() -> None:
    version = served()
    values: list[Parameter] = [True, 1, 1.0, "1", 0.0, -0.0, False, 0]
    keys = {group_key(request(version, [1], parameters=(("k", value),))) for value in values}
    assert len(keys) == len(values)
    assert group_key(request(version, [1, 2])) == group_key(request(version, [3]))
    assert group_key(request(version, [1], priority=Priority.BACKGROUND)) != group_key(request(version, [1]))


def test_an_absent_optional_input_makes_another_group() -> None:
    version = served()
    one = request(version, [1])
    two = request(version, [1])
    two.inputs = (*two.inputs, Tensor("z", DataType.UINT8, (1,), b"x"))
    three = request(version, [1])
    three.inputs = (Tensor("z", DataType.UINT8, (1,), b"x"), *three.inputs)
    assert len({group_key(each) for each in (one, two, three)}) == 3
    assert [each.name for each in call_shape(two).inputs] == ["x", "z"]
