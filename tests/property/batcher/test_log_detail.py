"""Hashes and outputs in the log: the same input has the same hash, no other has, and what is redacted is nowhere."""

import json
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from services.batcher.domain.cache_key import common_digest, row_keys
from services.batcher.domain.log_detail import OUTPUT_BYTES_MAX, InputHashes, output_json
from services.batcher.domain.recording import Recording, Recordings
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import pack, pack_bytes
from services.common.sampling import sampled, threshold_of
from services.common.schema import DataType, ModelSchema
from tests.support.batcher_faces_values import tensor_of

SERVED = ServedVersion("m", "v1.0.0", "main", ModelSchema((), ()))
columns = st.lists(st.binary(max_size=2), min_size=1, max_size=3)


def request_of(*columns: Sequence[bytes], scale: int = 0) -> InferRequest:
    inputs = tuple(
        Tensor(str(place), DataType.BYTES, (len(column),), pack_bytes(column)) for place, column in enumerate(columns)
    )
    return InferRequest(SERVED, len(columns[0]), inputs, 1.0, parameters=(("scale", scale),) if scale else ())


requests = st.integers(1, 3).flatmap(
    lambda rows: st.builds(
        lambda one, two, scale: request_of(one, two, scale=scale),
        st.lists(st.binary(max_size=2), min_size=rows, max_size=rows),
        st.lists(st.binary(max_size=2), min_size=rows, max_size=rows),
        st.integers(0, 1),
    )
)


@given(requests, requests)
def test_inputs_have_the_same_hash_exactly_where_they_are_the_same(one: InferRequest, other: InferRequest) -> None:
    hashes = InputHashes()
    same = (one.inputs, one.parameters) == (other.inputs, other.parameters)
    assert (hashes.of(one) == hashes.of(other)) == same
    later = replace(one, deadline_s=2.0, request_id="another")
    assert len(hashes.of(one)) == 32
    assert InputHashes().of(later) == hashes.of(one), "when and as what it was asked is not part of it"


def test_the_hash_of_one_row_is_the_key_by_which_it_is_cached() -> None:
    request = request_of([b"ab"])
    assert InputHashes().of(request) == row_keys(common_digest(request), request).keys[0]
    broken = replace(request, inputs=(Tensor("0", DataType.BYTES, (1,), b"\xff\0\0\0"),))
    assert InputHashes().of(broken) == b""


def test_an_output_has_the_rows_of_each_tensor_with_the_digits_that_they_have() -> None:
    result = InferResult(
        (
            tensor_of("label", DataType.INT64, (2,), [3, -1]),
            tensor_of("scores", DataType.FP32, (2, 2), [0.1, 0.9, float("nan"), 1.0]),
            Tensor("half", DataType.FP16, (2,), pack(DataType.FP16, [0.5, 2.0])),
            Tensor("brain", DataType.BF16, (2,), pack(DataType.BF16, [0.5, 2.0])),
            Tensor("text", DataType.BYTES, (2,), pack_bytes([b"a", b"\xff"])),
        )
    )
    assert json.loads(output_json(result)) == {
        "label": [3, -1],
        "scores": [[0.1, 0.9], [None, 1.0]],
        "half": [0.5, 2.0],
        "brain": [0.5, 2.0],
        "text": ["a", "\ufffd"],
    }
    assert json.loads(output_json(result, frozenset({"scores", "text", "unknown"}))) == {
        "label": [3, -1],
        "scores": "[redacted]",
        "half": [0.5, 2.0],
        "brain": [0.5, 2.0],
        "text": "[redacted]",
    }


names = st.sampled_from(["a", "b", "secret", 'quote"'])
shapes = st.lists(st.integers(0, 40), min_size=1, max_size=3).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    name, shape = draw(names), draw(shapes)
    count = 1
    for size in shape:
        count *= size
    if draw(st.booleans()):
        word = draw(st.sampled_from([b"x", b"classified", b"long" * 400]))
        return Tensor(name, DataType.BYTES, shape, pack_bytes([word] * count))
    return Tensor(name, DataType.FP64, shape, pack(DataType.FP64, [draw(st.floats())] * count))


@example([Tensor("none", DataType.FP64, (0, 2000), b"")])
@example([Tensor("none", DataType.BYTES, (0, 2000), b"")])
@given(st.lists(tensors(), max_size=6, unique_by=lambda tensor: tensor.name))
def test_outputs_are_json_of_bounded_size_and_say_what_is_not_shown(outputs: list[Tensor]) -> None:
    text = output_json(InferResult(tuple(outputs)), frozenset({"secret"}))
    assert len(text.encode()) <= OUTPUT_BYTES_MAX
    shown = json.loads(text)
    assert shown.get("secret", "[redacted]") == "[redacted]"
    whole = [
        len(shown[tensor.name]) == tensor.shape[0] for tensor in outputs if tensor.name in shown.keys() - {"secret"}
    ]
    if len(shown.keys() - {"..."}) < len(outputs) or not all(whole):
        assert "outputs left out" in shown["..."]


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_whoever_is_kept_by_a_share_is_kept_by_a_larger_one(request_id: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert sampled(request_id, threshold_of(high)) or not sampled(request_id, threshold_of(low))
    assert sampled(request_id, threshold_of(1.0))
    assert not sampled(request_id, threshold_of(0.0))


def test_a_share_is_kept_of_many() -> None:
    kept = sum(sampled(f"req_{number}", threshold_of(0.1)) for number in range(10_000))
    assert 900 < kept < 1100


def test_a_version_has_its_own_policy_or_its_models() -> None:
    own, models = Recording(1.0, output=True), Recording(1.0, input_hash=True)
    known = Recordings({("m", ""): models, ("m", "v1.0.0"): own, ("m", "v2.0.0"): None})
    assert [known.of("m", version) for version in ("v1.0.0", "v2.0.0", "v3.0.0")] == [own, None, models]
    assert known.of("other", "v1.0.0") is None
    assert not Recording(threshold_of(1.0), redacted=frozenset("a")).takes("any"), "it asks for nothing to be logged"
