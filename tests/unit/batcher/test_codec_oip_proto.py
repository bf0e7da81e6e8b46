"""`ModelInferRequest`: raw and listed contents, parameters, and what is refused."""

import math
import struct
from collections.abc import Mapping

import pytest
from inference import grpc_service_pb2 as pb

from services.batcher.codec.oip_proto import parse, read_request, split_parameters
from services.batcher.domain.tensors import Value, pack
from services.common.errors import MeshError, Reason
from services.common.schema import DataType
from tests.support.batcher_faces_values import limits_of

LISTED = {
    DataType.BOOL: ("bool_contents", [True, False]),
    DataType.INT8: ("int_contents", [-128, 127]),
    DataType.INT16: ("int_contents", [-(2**15), 2**15 - 1]),
    DataType.INT32: ("int_contents", [-(2**31), 2**31 - 1]),
    DataType.INT64: ("int64_contents", [-(2**63), 2**63 - 1]),
    DataType.UINT8: ("uint_contents", [0, 255]),
    DataType.UINT16: ("uint_contents", [0, 2**16 - 1]),
    DataType.UINT32: ("uint_contents", [0, 2**32 - 1]),
    DataType.UINT64: ("uint64_contents", [0, 2**64 - 1]),
    DataType.FP32: ("fp32_contents", [0.5, -math.inf]),
    DataType.FP64: ("fp64_contents", [0.1, 1e300]),
    DataType.BYTES: ("bytes_contents", [b"", b"\xff\0"]),
}


def message(*inputs: pb.ModelInferRequest.InferInputTensor, raw: tuple[bytes, ...] = ()) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name="digits", model_version="v1.0.0", id="mine", inputs=inputs, raw_input_contents=raw
    )


def given(
    datatype: str = "FP32",
    contents: pb.InferTensorContents | None = None,
    parameters: Mapping[str, pb.InferParameter] | None = None,
) -> pb.ModelInferRequest.InferInputTensor:
    return pb.ModelInferRequest.InferInputTensor(
        name="x", datatype=datatype, shape=(1, 2), contents=contents, parameters=parameters
    )


def refused(request: pb.ModelInferRequest) -> MeshError:
    with pytest.raises(MeshError) as caught:
        read_request(request)
    return caught.value


@pytest.mark.parametrize("data_type", list(LISTED))
def test_listed_contents_become_the_bytes_of_raw_ones(data_type: DataType) -> None:
    field, values = LISTED[data_type]
    contents = pb.InferTensorContents(**{field: values})  # type: ignore[arg-type]
    (tensor,) = read_request(message(given(data_type.value, contents))).inputs
    assert (tensor.name, tensor.data_type, tensor.shape) == ("x", data_type, (1, 2))
    known: list[Value] = list(values)  # type: ignore[call-overload]
    assert tensor.data == pack(data_type, known)


@pytest.mark.parametrize("data_type", [DataType.INT8, DataType.INT16, DataType.UINT8, DataType.UINT16])
def test_listed_contents_beyond_their_type_are_refused(data_type: DataType) -> None:
    field, _ = LISTED[data_type]
    contents = pb.InferTensorContents(**{field: [limits_of(data_type)[1] + 1]})  # type: ignore[arg-type]
    error = refused(message(given(data_type.value, contents)))
    assert error.reason is Reason.INVALID_FIELD
    assert error.violations[0].field == "inputs[0].contents"
    assert data_type.value in error.message


@pytest.mark.parametrize("data_type", [DataType.FP16, DataType.BF16])
def test_half_precision_has_no_list(data_type: DataType) -> None:
    contents = pb.InferTensorContents(fp32_contents=[1.0, 2.0])
    error = refused(message(given(data_type.value, contents)))
    assert error.reason is Reason.INVALID_FIELD
    assert "raw_input_contents" in error.message


def test_the_list_of_another_type_is_refused() -> None:
    contents = pb.InferTensorContents(fp32_contents=[1.0], int64_contents=[1])
    error = refused(message(given("FP32", contents)))
    assert error.reason is Reason.MALFORMED_BODY
    assert "int64_contents" in error.message


def test_raw_contents_go_by_the_order_of_the_inputs() -> None:
    request = read_request(message(given("FP32"), given("INT8"), raw=(b"\0" * 8, b"ab")))
    assert [(tensor.data_type, tensor.data) for tensor in request.inputs] == [
        (DataType.FP32, b"\0" * 8),
        (DataType.INT8, b"ab"),
    ]
    assert (request.model_name, request.version, request.request_id) == ("digits", "v1.0.0", "mine")


@pytest.mark.parametrize("raw", [(b"",), (b"", b"", b"")])
def test_raw_contents_are_as_many_as_the_inputs(raw: tuple[bytes, ...]) -> None:
    error = refused(message(given(), given(), raw=raw))
    assert error.reason is Reason.MALFORMED_BODY
    assert f"{len(raw)} entries for 2 inputs" in error.message


def test_raw_and_listed_contents_together_are_refused() -> None:
    listed = given("FP32", pb.InferTensorContents(fp32_contents=[1.0, 2.0]))
    error = refused(message(given(), listed, raw=(b"\0" * 8, b"\0" * 8)))
    assert error.reason is Reason.MALFORMED_BODY
    assert "inputs[1]" in error.message


@pytest.mark.parametrize("datatype", ["", "fp32", "STRING", "TYPE_FP32", "FP8"])
def test_an_unknown_type_is_refused_with_those_there_are(datatype: str) -> None:
    error = refused(message(given(datatype)))
    assert error.reason is Reason.INVALID_FIELD
    assert "BF16" in error.message


@pytest.mark.parametrize("name", ["shared_memory_region", "classification", "sequence_id"])
def test_extensions_that_are_not_offered_are_refused_wherever_they_are_asked_for(name: str) -> None:
    parameter = pb.InferParameter(int64_param=1)
    on_output = message(given())
    on_output.outputs.add(name="y", parameters={name: parameter})
    on_request = message(given())
    on_request.parameters[name].CopyFrom(parameter)
    for request in (message(given(parameters={name: parameter})), on_output, on_request):
        error = refused(request)
        assert error.reason is Reason.NOT_IMPLEMENTED
        assert name in error.message


def test_parameters_of_every_kind_reach_the_model_in_order() -> None:
    request = message(given())
    kinds = {"e": "double_param", "d": "uint64_param", "c": "string_param", "b": "int64_param", "a": "bool_param"}
    values: dict[str, object] = {"a": False, "b": -1, "c": "text", "d": 2**64 - 1, "e": 0.5}
    for name, kind in kinds.items():
        setattr(request.parameters[name], kind, values[name])
    request.parameters["priority"].uint64_param = 3
    request.parameters["timeout"].int64_param = 1500
    read = read_request(request)
    assert read.parameters == tuple(values.items())
    assert read.timeout_ms == 1.5


def test_a_parameter_without_a_value_is_refused() -> None:
    request = message(given())
    request.parameters["a"].SetInParent()
    request.parameters["a"].CopyFrom(pb.InferParameter())
    assert refused(request).violations[0].field == "parameters.a"


@pytest.mark.parametrize("timeout", [1000, "1000"])
def test_a_time_limit_is_in_microseconds(timeout: object) -> None:
    assert split_parameters({"timeout": timeout}) == ((), 1.0)


@pytest.mark.parametrize("timeout", [-1, True, 1.5, "", "1.5", "²", "١", " 1", "1" * 5000, 10**400, None, [1]])
def test_what_is_no_time_limit_is_refused(timeout: object) -> None:
    with pytest.raises(MeshError) as caught:
        split_parameters({"timeout": timeout})
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.violations[0].field == "parameters.timeout"


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message_are_malformed(data: bytes) -> None:
    with pytest.raises(MeshError, match="the body is no ModelInferRequest") as caught:
        parse(pb.ModelInferRequest, data)
    assert caught.value.reason is Reason.MALFORMED_BODY


def test_outputs_are_read_in_the_callers_order() -> None:
    request = message(given(), raw=(struct.pack("<2f", 1, 2),))
    for name in ("probabilities", "label"):
        request.outputs.add(name=name)
    assert read_request(request).outputs == ("probabilities", "label")
