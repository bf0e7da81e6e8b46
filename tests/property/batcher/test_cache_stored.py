"""Stored answers come back as they were; whatever else lies there is recognised as none of ours."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.codec.stored_answer import decode, encode
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.tensors import pack_bytes
from services.common.schema import DataType


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    data_type = draw(st.sampled_from(list(DataType)))
    shape = (1, *draw(st.lists(st.integers(0, 3), max_size=3)))
    if data_type is DataType.BYTES:
        data = pack_bytes(draw(st.lists(st.binary(max_size=9), min_size=prod(shape), max_size=prod(shape))))
    else:
        size = prod(shape) * data_type.size_bytes
        data = draw(st.binary(min_size=size, max_size=size))
    return Tensor(draw(st.text(max_size=20)), data_type, shape, data)


answers = st.lists(tensors(), max_size=4).map(lambda outputs: InferResult(tuple(outputs)))
moments = st.integers(0, 2**64 - 1)


@given(answers, moments)
def test_an_answer_comes_back_as_it_was(answer: InferResult, expires_ms: int) -> None:
    stored = encode(answer, expires_ms=expires_ms)
    assert stored is not None
    assert decode(stored) == (expires_ms, answer)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_answer_and_no_failure(data: bytes) -> None:
    assert decode(data) is None


@given(answers, moments, st.data())
def test_a_cut_or_lengthened_answer_is_none(answer: InferResult, expires_ms: int, data: st.DataObject) -> None:
    stored = encode(answer, expires_ms=expires_ms)
    assert stored is not None
    assert decode(stored[: data.draw(st.integers(0, len(stored) - 1))]) is None
    assert decode(stored + data.draw(st.binary(min_size=1, max_size=5))) is None


@given(answers, moments, st.data())
def test_a_damaged_answer_never_fails_and_always_adds_up(
    answer: InferResult, expires_ms: int, data: st.DataObject
) -> None:
    stored = bytearray(encode(answer, expires_ms=expires_ms) or b"")
    at = data.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= data.draw(st.integers(1, 255))
    found = decode(bytes(stored))
    if found is not None:
        for tensor in found[1].outputs:
            if tensor.data_type is not DataType.BYTES:
                assert len(tensor.data) == prod(tensor.shape) * tensor.data_type.size_bytes


@pytest.mark.parametrize(
    "answer",
    [
        InferResult((Tensor("n" * 256, DataType.INT8, (1,), b"\0"),)),
        InferResult(tuple(Tensor("n", DataType.INT8, (1,), b"\0") for _ in range(256))),
        InferResult((Tensor("n", DataType.INT8, (1,) * 256, b"\0"),)),
    ],
)
def test_what_does_not_fit_the_format_is_not_stored(answer: InferResult) -> None:
    assert encode(answer, expires_ms=0) is None
