"""Numpy arrays as tensors of the Open Inference Protocol, and back."""

from typing import Any

import numpy as np
import pytest
from inference import grpc_service_pb2
from infermesh.client.tensors import request_of, tensors_of


def echo(request: grpc_service_pb2.ModelInferRequest) -> grpc_service_pb2.ModelInferResponse:
    """A model that gives back what it gets."""
    response = grpc_service_pb2.ModelInferResponse(raw_output_contents=request.raw_input_contents)
    for tensor in request.inputs:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return response


@pytest.mark.parametrize(
    "array",
    [
        *(
            np.arange(6).reshape(2, 3).astype(kind)
            for kind in ("b1", "u1", "u8", "i1", "<i4", ">i4", "f2", "f4", ">f8")
        ),
        np.zeros((0, 4), np.float32),
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.array([["a", "ü"], ["", "long"]], dtype=object),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_survive(array: Any) -> None:
    request = request_of("m", {"x": array}, version="v1.0.0", outputs=["x"])
    back = tensors_of(echo(request))["x"]
    expected = array if array.dtype != object else np.vectorize(str.encode, otypes=[object])(array)
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, expected)


def test_the_request_names_model_version_and_outputs() -> None:
    request = request_of("m", {"x": np.zeros((1, 2), np.float32)}, version="v1.0.0", outputs=["y"])
    assert (request.model_name, request.model_version) == ("m", "v1.0.0")
    assert (request.inputs[0].name, request.inputs[0].datatype, list(request.inputs[0].shape)) == ("x", "FP32", [1, 2])
    assert [item.name for item in request.outputs] == ["y"]


@pytest.mark.parametrize("array", [np.zeros(2, np.complex64), np.array([1, {}], dtype=object)])
def test_types_without_a_tensor_are_named(array: Any) -> None:
    with pytest.raises(TypeError, match="'x'"):
        request_of("m", {"x": array}, version="", outputs=())


def test_an_answer_without_bytes_is_refused() -> None:
    answer = grpc_service_pb2.ModelInferResponse()
    answer.outputs.add(name="y", datatype="FP32", shape=[1])
    with pytest.raises(ValueError, match="1 tensors and the bytes of 0"):
        tensors_of(answer)
