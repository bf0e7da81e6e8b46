"""Requests as bytes, answers read: what is measured is what clients send."""

import struct

import orjson
import pytest
from inference import grpc_service_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from benchmarks.payloads import Call, Digit, WrongAnswerError, open_inference, rest, typed

DIGIT = Digit(pixels=tuple(float(pixel) for pixel in range(64)), label=3)


def message_of(call: Call) -> bytes:
    compressed, size = struct.unpack(">BI", call.body[:5])
    assert (compressed, size) == (0, len(call.body) - 5)
    assert ("content-type", "application/grpc") in call.headers
    return call.message


def test_an_open_inference_request_has_raw_tensors() -> None:
    call = open_inference("digits", DIGIT)
    request = grpc_service_pb2.ModelInferRequest.FromString(message_of(call))
    (tensor,) = request.inputs
    assert (request.model_name, tensor.name, tensor.datatype, list(tensor.shape)) == ("digits", "X", "FP32", [1, 64])
    assert struct.unpack("<64f", request.raw_input_contents[0]) == DIGIT.pixels
    assert call.path == "/inference.GRPCInferenceService/ModelInfer"


def test_an_open_inference_answer_is_read_by_its_tensors_names() -> None:
    answer = grpc_service_pb2.ModelInferResponse(
        outputs=[
            grpc_service_pb2.ModelInferResponse.InferOutputTensor(name=name) for name in ("probabilities", "label")
        ],
        raw_output_contents=[b"\0" * 40, struct.pack("<q", 7)],
    )
    call = open_inference("digits", DIGIT)
    assert call.label_of(answer.SerializeToString()) == 7
    with pytest.raises(WrongAnswerError, match="no label"):
        call.label_of(b"")


def test_a_typed_request_and_its_answer() -> None:
    call = typed("digits", DIGIT)
    request = prediction_pb2.PredictRequest.FromString(message_of(call))
    assert tuple(request.instances[0].features["X"].float_list.values) == DIGIT.pixels
    answer = prediction_pb2.PredictResponse(
        predictions=[prediction_pb2.Prediction(output=instance_pb2.Feature(int64_value=7))]
    )
    assert call.label_of(answer.SerializeToString()) == 7
    with pytest.raises(WrongAnswerError, match="0 predictions"):
        call.label_of(b"")


def test_a_rest_request_and_its_answer() -> None:
    call = rest("digits", DIGIT)
    assert (call.path, call.grpc) == ("/v1/models/digits/predict", False)
    assert orjson.loads(call.message) == {"instances": [{"X": list(DIGIT.pixels)}]}
    assert call.label_of(b'{"predictions": [{"output": 7, "class": "7"}]}') == 7
    for wrong in (b"", b"[]", b'{"predictions": []}', b'{"predictions": [{}]}'):
        with pytest.raises(WrongAnswerError):
            call.label_of(wrong)
