"""Requests that are read by what those before had in common with them are read as each alone would be."""

import struct
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from inference import grpc_service_pb2 as pb
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from services.batcher.codec.oip_proto import TensorRequests, parse, read_request
from services.batcher.codec.templates import Templates
from services.batcher.codec.typed import TypedReader
from services.batcher.codec.typed_requests import TypedTemplates, asked_in
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.serving import ServedVersion
from services.common.schema import DataType, ModelSchema, TensorSpec

floats = st.lists(st.floats(width=32, allow_nan=False), min_size=4, max_size=4)
names = st.sampled_from(("", "digits", "iris"))


@st.composite
def infers(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A few kinds of requests, so that many of a list are alike but for their elements."""
    request = pb.ModelInferRequest(model_name=draw(names), id=draw(names))
    if draw(st.booleans()):
        request.parameters["k"].int64_param = draw(st.integers(0, 1))
    for place in range(draw(st.sampled_from((1, 1, 1, 2)))):
        values = draw(floats)
        kind = draw(st.sampled_from(("raw", "raw", "typed", "text")))
        if kind == "text":
            text = request.inputs.add(name="T", datatype="BYTES", shape=[1])
            text.contents.bytes_contents.append(repr(values).encode())
        elif kind == "raw" and not place and len(request.inputs) == 0:
            request.inputs.add(name="X", datatype=draw(st.sampled_from(("FP32", "INT32"))), shape=[1, 4])
            request.raw_input_contents.append(struct.pack("<4f", *values))
            return request
        else:
            request.inputs.add(name="X", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend(values)
    return request


@given(st.lists(infers(), max_size=12))
def test_tensor_requests_are_read_as_each_alone_would_be(messages: list[pb.ModelInferRequest]) -> None:
    requests = TensorRequests()
    for message in messages * 3:
        data = message.SerializeToString()
        read, alone = requests.read(data), read_request(parse(pb.ModelInferRequest, data))
        read.template = None
        assert read == alone


PLAN = InstancePlan(
    ServedVersion("m", "v1.0.0", "d", ModelSchema((TensorSpec("X", DataType.FP32, (4,)),), ())),
)


@st.composite
def predicts(draw: st.DrawFn) -> prediction_pb2.PredictRequest:
    """Requests for one feature, some with more rows, ids, parameters."""
    request = prediction_pb2.PredictRequest(
        model_name=draw(names), request_id=draw(names), timeout_ms=draw(st.sampled_from((0, 5)))
    )
    if draw(st.booleans()):
        request.parameters["k"] = draw(names)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2)))):
        feature = instance_pb2.Feature(float_list=instance_pb2.FloatList(values=draw(floats)))
        request.instances.add().features["X"].CopyFrom(feature)
    return request


@given(st.lists(predicts(), max_size=12))
def test_typed_requests_are_read_as_each_alone_would_be(messages: list[prediction_pb2.PredictRequest]) -> None:
    reader, templates = TypedReader(PLAN), TypedTemplates()
    known = 0
    for message in messages * 3:
        data = message.SerializeToString()
        tensors, asked = reader.tensors(message.instances), asked_in(message)
        found = templates.find(data)
        if found is None:
            templates.learn(data, asked, reader, tensors)
            continue
        known += 1
        template, content = found
        assert (template.asked, template.inputs(content)) == (asked, tensors)
    if messages and len(messages[0].instances) == 1:
        assert known, "the first is known when it comes again"


def test_what_never_repeats_is_hardly_looked_at() -> None:
    looked: list[bytes] = []
    templates: Templates[str] = Templates()

    def reads_as(message: bytes, _content: bytes) -> str:
        looked.append(message)
        return "known"

    for number in range(1000):
        data = f"id {number}: ".encode() + b"content"
        assert templates.find(data) is None
        templates.learn(data, b"content", reads_as)
    assert 0 < len(looked) < 10


def test_memory_is_bounded() -> None:
    templates: Templates[int] = Templates()
    for number in range(100_000):
        templates.learn(bytes(number % 900) + b"content", b"content", lambda *_: 1)
    assert templates.kept <= 64


_ELEMENTS = 250_000
_LARGE = InstancePlan(
    ServedVersion("m", "v1.0.0", "d", ModelSchema((TensorSpec("X", DataType.FP32, (_ELEMENTS,)),), ())),
)


def _infer(requests: TensorRequests, request_id: str, elements: int) -> None:
    message = pb.ModelInferRequest(model_name="m", id=request_id, raw_input_contents=[b"\1" * 4 * elements])
    message.inputs.add(name="X", datatype="FP32", shape=[1, elements])
    requests.read(message.SerializeToString())


def test_the_elements_of_tensor_requests_are_not_kept() -> None:
    requests = TensorRequests()
    tracemalloc.start()
    try:
        for large in range(10):
            _infer(requests, f"large {large}", _ELEMENTS)
            for small in range(128):  # until one is looked at again
                _infer(requests, f"small {large} {small}", 1)
        assert tracemalloc.get_traced_memory()[0] < 4 * _ELEMENTS
    finally:
        tracemalloc.stop()


def test_the_elements_of_typed_requests_are_not_kept() -> None:
    values = instance_pb2.Feature(float_list=instance_pb2.FloatList(values=[1.0] * _ELEMENTS))
    message = prediction_pb2.PredictRequest(model_name="m")
    message.instances.add().features["X"].CopyFrom(values)
    data, reader, templates = message.SerializeToString(), TypedReader(_LARGE), TypedTemplates()
    templates.learn(data, asked_in(message), reader, reader.tensors(message.instances))
    found = templates.find(data)
    assert found is not None
    template, content = found
    assert template.tensor.data == b""
    assert template.inputs(content) == reader.tensors(message.instances)
