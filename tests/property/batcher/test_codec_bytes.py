"""Codecs: what is written is read back, and no bytes whatever crash a reader."""

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference import grpc_service_pb2 as pb
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from services.batcher.codec import oip_json, predict_json
from services.batcher.codec.frames import FrameReader, error_trailers, frame, timeout_s, unframe
from services.batcher.codec.oip_proto import parse, read_request
from services.batcher.codec.oip_wire import ResponseWire, varint
from services.batcher.codec.typed import TypedReader
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.outputs import row_values
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import pack, split_bytes, unpack
from services.common.errors import FieldViolation, MeshError, Reason
from services.common.grpc.status import STATUS_DETAILS_KEY
from services.common.schema import DataType, ModelSchema, TensorSpec

INTEGERS = [item for item in DataType if item.is_integer]
FLOATS = {DataType.FP16: 16, DataType.FP32: 32, DataType.FP64: 64}
REFUSALS = {
    None,
    Reason.MALFORMED_BODY,
    Reason.INVALID_FIELD,
    Reason.NOT_IMPLEMENTED,
    Reason.MESSAGE_TOO_LARGE,
}


def refusal(read: Callable[[], object]) -> Reason | None:
    """Why it was refused; None: it was not."""
    try:
        read()
    except MeshError as error:
        return error.reason
    return None


def values_of(data_type: DataType) -> st.SearchStrategy[list[Any]]:
    element: st.SearchStrategy[Any]
    if data_type in FLOATS:
        element = st.floats(width=FLOATS[data_type], allow_nan=False)  # type: ignore[arg-type]
    elif data_type is DataType.BF16:
        element = st.sampled_from([0.0, -1.5, 2.0, 256.0, float("inf")])
    elif data_type is DataType.BOOL:
        element = st.booleans()
    elif data_type is DataType.BYTES:
        element = st.binary(max_size=300)
    else:
        bits = data_type.size_bytes * 8
        unsigned = data_type.value.startswith("U")
        element = st.integers(0, 2**bits - 1) if unsigned else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.lists(element, min_size=1, max_size=40)


TENSOR_VALUES = st.sampled_from(list(DataType)).flatmap(lambda item: st.tuples(st.just(item), values_of(item)))


@given(TENSOR_VALUES)
def test_elements_survive_their_bytes(case: tuple[DataType, list[Any]]) -> None:
    data_type, values = case
    data = pack(data_type, values)
    assert unpack(data_type, data) == values
    if data_type is not DataType.BYTES:
        assert len(data) == len(values) * data_type.size_bytes
        assert row_values(Tensor("t", data_type, (len(values),), data)) == values


@given(st.binary(max_size=200))
def test_any_bytes_are_elements_or_refused(data: bytes) -> None:
    try:
        elements = split_bytes(data)
    except ValueError:
        return
    assert pack(DataType.BYTES, elements) == data


@given(st.lists(st.binary(max_size=3000), max_size=8), st.data())
def test_messages_are_found_whatever_the_pieces(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(message) for message in messages)
    reader = FrameReader()
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    reader.finish()
    assert found == messages
    for message in messages:
        assert unframe(frame(message)) == message


@given(st.binary(max_size=40))
def test_any_bytes_are_a_frame_or_refused(data: bytes) -> None:
    assert refusal(lambda: unframe(data)) in REFUSALS
    assert refusal(lambda: list(FrameReader().feed(data))) in REFUSALS


@given(st.integers(0, 99_999_999), st.sampled_from("HMSmun"))
def test_time_limits_are_read_in_every_unit(number: int, unit: str) -> None:
    seconds = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[unit]
    assert timeout_s(f"{number}{unit}".encode()) == pytest.approx(number * seconds)


@given(st.binary(max_size=12))
def test_any_time_limit_is_read_or_refused(value: bytes) -> None:
    assert refusal(lambda: timeout_s(value)) in (None, Reason.MALFORMED_BODY)


@given(st.text(max_size=4000), st.lists(st.text(max_size=2000), max_size=16))
def test_trailers_are_ascii_and_bounded_whatever_is_said(message: str, fields: list[str]) -> None:
    violations = [FieldViolation(item, item) for item in fields]
    trailers = error_trailers(MeshError(Reason.SCHEMA_VIOLATION, message, violations=violations))
    for _, value in trailers:
        assert value.isascii()
        assert not {10, 13} & set(value)
    details = dict(trailers)[STATUS_DETAILS_KEY.encode()]
    assert len(details) < 9000
    assert dict(trailers)[b"grpc-status"] == b"3"


@given(st.integers(0, 2**64 - 1))
def test_varints_are_protobufs(value: int) -> None:
    message = pb.StatisticDuration(count=value)
    assert (b"\x08" + varint(value) if value else b"") == message.SerializeToString()


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=20), TENSOR_VALUES), min_size=1, max_size=4),
    st.text(max_size=30),
    st.booleans(),
)
def test_written_answers_are_what_protobuf_reads(
    outputs: list[tuple[str, tuple[DataType, list[Any]]]], request_id: str, twice: bool
) -> None:
    tensors = tuple(
        Tensor(name, data_type, (len(values), 1), pack(data_type, values)) for name, (data_type, values) in outputs
    )
    wire = ResponseWire(ServedVersion("model", "v1.0.0", "main", ModelSchema()))
    for _ in range(1 + twice):  # the second time from what was kept
        response = pb.ModelInferResponse.FromString(wire.response(InferResult(tensors), request_id))
    assert (response.model_name, response.model_version, response.id) == ("model", "v1.0.0", request_id)
    assert list(response.raw_output_contents) == [tensor.data for tensor in tensors]
    assert [(item.name, item.datatype, tuple(item.shape)) for item in response.outputs] == [
        (tensor.name, tensor.data_type.value, tensor.shape) for tensor in tensors
    ]


def served(*specs: TensorSpec) -> InstancePlan:
    return InstancePlan(ServedVersion("m", "v1.0.0", "main", ModelSchema(specs, ())))


@given(st.lists(st.lists(st.floats(width=32), min_size=33, max_size=33), min_size=1, max_size=5))
def test_packed_lists_are_the_tensor(rows: list[list[float]]) -> None:
    """The quick way of the typed protocol, with a length that takes two bytes."""
    plan = served(TensorSpec("x", DataType.FP32, (33,)))
    instances = [
        instance_pb2.Instance(features={"x": instance_pb2.Feature(float_list=instance_pb2.FloatList(values=row))})
        for row in rows
    ]
    message = prediction_pb2.PredictRequest.FromString(
        prediction_pb2.PredictRequest(instances=instances).SerializeToString()
    )
    [tensor] = TypedReader(plan).tensors(message.instances)
    assert tensor.shape == (len(rows), 33)
    assert tensor.data == b"".join(struct.pack("<33f", *row) for row in rows)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    assert refusal(lambda: read_request(parse(pb.ModelInferRequest, data))) in REFUSALS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["instances", "version", "parameters", "timeout_ms", "explain", "inputs", "name", "x", "shape"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON | st.binary(max_size=30), st.integers(0, 40) | st.none())
def test_any_document_is_a_request_or_refused(document: object, header_length: int | None) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    plan = served(TensorSpec("x", DataType.FP32, (2,)), TensorSpec("name", DataType.BYTES, optional=True))
    predicted = refusal(lambda: plan.tensors(predict_json.read(body).instances))
    assert predicted in REFUSALS | {Reason.SCHEMA_VIOLATION}
    assert refusal(lambda: oip_json.read(body, header_length, model_name="m", version="")) in REFUSALS


@given(TENSOR_VALUES.filter(lambda case: case[0] is not DataType.BYTES), st.booleans())
def test_rest_tensors_survive_both_forms(case: tuple[DataType, list[Any]], binary: bool) -> None:
    data_type, values = case
    tensor = Tensor("x", data_type, (len(values),), pack(data_type, values))
    if not binary and any(value in (float("inf"), float("-inf")) for value in values):
        return  # JSON has no infinity
    request = oip_json.RestRequest(parse_nothing(), binary_default=binary)
    body, length = oip_json.write(request, InferResult((tensor,)), model_name="m", version="v1.0.0")
    document = json.loads(body[:length])
    written = {"inputs": document["outputs"]}
    head = json.dumps(written).encode()
    rest = body[length:] if length is not None else b""
    read = oip_json.read(head + rest, len(head) if binary else None, model_name="m", version="")
    assert read.tensors.inputs == [tensor]


def parse_nothing() -> Any:
    return read_request(pb.ModelInferRequest())
