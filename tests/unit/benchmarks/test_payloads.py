"""Requests as bytes, answers read: what is measured is what clients send."""

import struct

import numpy as np
import orjson
import pytest
from inference import grpc_service_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from benchmarks.payloads import (
    Call,
    Sample,
    WrongAnswerError,
    digits,
    open_inference,
    open_inference_json,
    rest,
    typed,
)

SAMPLE = Sample(np.arange(128, dtype=np.float32).reshape(2, 64), (3, 4))


def message_of(call: Call) -> bytes:
    compressed, size = struct.unpack(">BI", call.body[:5])
    assert (compressed, size) == (0, len(call.body) - 5)
    assert ("content-type", "application/grpc") in call.headers
    return call.message


def test_an_open_inference_request_has_raw_tensors() -> None:
    call = open_inference("digits", SAMPLE, version="v2")
    request = grpc_service_pb2.ModelInferRequest.FromString(message_of(call))
    (tensor,) = request.inputs
    assert (request.model_name, request.model_version) == ("digits", "v2")
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("X", "FP32", [2, 64])
    assert request.raw_input_contents[0] == SAMPLE.rows.tobytes()
    assert call.path == "/inference.GRPCInferenceService/ModelInfer"


def test_an_open_inference_answer_is_read_by_its_tensors_names() -> None:
    answer = grpc_service_pb2.ModelInferResponse(
        outputs=[
            grpc_service_pb2.ModelInferResponse.InferOutputTensor(name=name) for name in ("probabilities", "label")
        ],
        raw_output_contents=[b"\0" * 80, struct.pack("<qq", 7, 8)],
    )
    call = open_inference("digits", SAMPLE)
    assert call.labels_of(answer.SerializeToString()) == (7, 8)
    with pytest.raises(WrongAnswerError, match="no labels"):
        call.labels_of(b"")


def test_a_typed_request_and_its_answer() -> None:
    call = typed("digits", SAMPLE)
    request = prediction_pb2.PredictRequest.FromString(message_of(call))
    values = [tuple(instance.features["X"].float_list.values) for instance in request.instances]
    assert values == [tuple(row) for row in SAMPLE.rows.tolist()]
    answer = prediction_pb2.PredictResponse(
        predictions=[
            prediction_pb2.Prediction(output=instance_pb2.Feature(int64_value=label)) for label in SAMPLE.labels
        ]
    )
    assert call.labels_of(answer.SerializeToString()) == (3, 4)
    with pytest.raises(WrongAnswerError, match="without predictions"):
        call.labels_of(b"")


def test_a_rest_request_and_its_answer() -> None:
    call = rest("digits", SAMPLE)
    assert (call.path, call.grpc) == ("/v1/models/digits/predict", False)
    assert orjson.loads(call.message) == {"instances": [{"X": row} for row in SAMPLE.rows.tolist()]}
    assert call.labels_of(b'{"predictions": [{"output": 7, "class": "7"}, {"output": 8}]}') == (7, 8)
    for wrong in (b"", b"[]", b'{"predictions": []}', b'{"predictions": [{}]}'):
        with pytest.raises(WrongAnswerError):
            call.labels_of(wrong)


def test_tritons_own_json_and_its_answer() -> None:
    call = open_inference_json("digits-b64", SAMPLE)
    assert (call.path, call.grpc) == ("/v2/models/digits-b64/infer", False)
    (tensor,) = orjson.loads(call.message)["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("X", "FP32", [2, 64])
    assert tensor["data"] == SAMPLE.rows.ravel().tolist()
    assert call.labels_of(
        b'{"outputs": [{"name": "probabilities", "data": [0]}, {"name": "label", "data": [7, 8]}]}'
    ) == (
        7,
        8,
    )
    for wrong in (b"", b'{"error": "no"}', b'{"outputs": []}'):
        with pytest.raises(WrongAnswerError):
            call.labels_of(wrong)


@pytest.mark.parametrize("rows", [1, 32])
def test_every_kept_digit_is_asked_about(rows: int) -> None:
    samples, singles = digits(rows), digits()
    assert {sample.rows.shape for sample in samples} == {(rows, 64)}
    assert all(len(sample.labels) == rows for sample in samples)
    label_of = {single.rows.tobytes(): single.labels[0] for single in singles}
    seen = {row.tobytes(): label for sample in samples for row, label in zip(sample.rows, sample.labels, strict=True)}
    assert seen == label_of
