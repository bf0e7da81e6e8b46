"""The Open Inference Protocol over REST: numbers, bytes behind the JSON, and what is refused."""

import json
import math
import struct

import pytest

from services.batcher.codec import oip_json
from services.batcher.domain.request import InferResult, Tensor
from services.common.errors import MeshError, Reason
from services.common.schema import DataType
from tests.support.batcher_faces_values import NUMBER_TYPES, tensor_of

X: dict[str, object] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}


def read(document: object, rest: bytes | None = None) -> oip_json.RestRequest:
    head = json.dumps(document).encode()
    if rest is None:
        return oip_json.read(head, None, model_name="digits", version="")
    return oip_json.read(head + rest, len(head), model_name="digits", version="")


def refused(document: object, rest: bytes | None = None) -> MeshError:
    with pytest.raises(MeshError) as caught:
        read(document, rest)
    return caught.value


def with_input(**fields: object) -> dict[str, object]:
    return {"inputs": [{**X, "data": [1, 2], **fields}]}


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]], [1.0, 2, 3.0, 4]])
def test_numbers_are_read_flat_or_nested(data: object) -> None:
    request = read(with_input(shape=[2, 2], data=data))
    assert request.tensors.inputs == [Tensor("x", DataType.FP32, (2, 2), struct.pack("<4f", 1, 2, 3, 4))]


@pytest.mark.parametrize("data_type", NUMBER_TYPES)
def test_numbers_of_every_type_are_read(data_type: DataType) -> None:
    request = read(with_input(datatype=data_type.value, data=[1, 2.0]))
    assert request.tensors.inputs == [tensor_of("x", data_type, (1, 2), [1, 2])]


@pytest.mark.parametrize(
    ("datatype", "data", "said"),
    [
        ("FP32", ["1", 2], "inputs[0].data[0] expected FP32, got '1'"),
        ("FP32", [1, True], "inputs[0].data[1] expected FP32, got true"),
        ("FP32", [1, None], "inputs[0].data[1] expected FP32, got null"),
        ("FP32", [1, 1e39], "inputs[0].data[1] expected FP32, got 1e+39"),
        ("FP32", [1, {"a": 1}], "inputs[0].data[1] expected FP32, got an object"),
        ("INT8", [1, 128], "inputs[0].data[1] expected INT8, got 128"),
        ("INT8", [1, 1.5], "inputs[0].data[1] expected INT8, got 1.5"),
        ("BOOL", [1, 0], "inputs[0].data[0] expected BOOL, got 1"),
        ("BYTES", ["a", 1], "inputs[0].data[1] expected text (BYTES), got 1"),
        ("FP32", [[1], [2, 3]], "inputs[0].data expected a list of FP32, got lists of different lengths"),
        ("FP32", None, "inputs[0].data expected a list of FP32, got null"),
        ("FP32", {"a": 1}, "inputs[0].data expected a list of FP32, got an object"),
        ("FP32", 1.5, "inputs[0].data expected a list of FP32, got 1.5"),
    ],
)
def test_data_that_does_not_fit_is_named(datatype: str, data: object, said: str) -> None:
    error = refused(with_input(datatype=datatype, data=data))
    assert error.reason is Reason.INVALID_FIELD
    assert said in error.message


def test_a_long_list_that_is_all_wrong_is_refused_at_the_cost_of_a_few() -> None:
    error = refused(with_input(data=["no"] * 300_000))
    assert len(error.violations) == 16


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": 1}, "inputs[0].name"),
        ({"datatype": "fp32"}, "inputs[0].datatype"),
        ({"datatype": None}, "inputs[0].datatype"),
        ({"shape": None}, "inputs[0].shape"),
        ({"shape": [1.0]}, "inputs[0].shape"),
        ({"shape": [True]}, "inputs[0].shape"),
        ({"shape": [-1, 2]}, "inputs[0].shape"),
        ({"shape": [1] * 17}, "inputs[0].shape"),
        ({"parameters": [1]}, "inputs[0].parameters"),
        ({"parameters": {"binary_data_size": 1}}, "inputs[0].parameters.binary_data_size"),
    ],
)
def test_a_tensor_that_is_none_is_named(fields: dict[str, object], field: str) -> None:
    error = refused(with_input(**fields))
    assert error.reason is Reason.INVALID_FIELD
    assert error.violations[0].field == field


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "inputs"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": [1]}, "inputs"),
        ({**with_input(), "id": 5}, "id"),
        ({**with_input(), "outputs": {"a": 1}}, "outputs"),
        ({**with_input(), "outputs": [{"name": 1}]}, "outputs[0].name"),
        ({**with_input(), "outputs": [{"name": "y", "parameters": "x"}]}, "outputs[0].parameters"),
        ({**with_input(), "parameters": [1]}, "parameters"),
        ({**with_input(), "parameters": {"a": [1]}}, "parameters.a"),
        ({**with_input(), "parameters": {"timeout": "²"}}, "parameters.timeout"),
    ],
)
def test_a_request_that_is_none_is_named(document: object, field: str) -> None:
    error = refused(document)
    assert error.reason is Reason.INVALID_FIELD
    assert error.violations[0].field == field


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 3000])
def test_a_body_that_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MeshError) as caught:
        oip_json.read(body, None, model_name="digits", version="")
    assert caught.value.reason is Reason.MALFORMED_BODY
    assert 'send an object such as {"inputs": ' in caught.value.message


@pytest.mark.parametrize("length", [0, -1, 10**9])
def test_a_json_length_outside_the_body_is_malformed(length: int) -> None:
    with pytest.raises(MeshError, match="Inference-Header-Content-Length"):
        oip_json.read(b"{}", length, model_name="digits", version="")


def test_bytes_behind_the_json_go_to_the_inputs_in_order() -> None:
    inputs = [
        {**X, "parameters": {"binary_data_size": 8}},
        {"name": "listed", "datatype": "INT8", "shape": [1], "data": [5]},
        {"name": "s", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
    ]
    request = read({"inputs": inputs, "id": "mine"}, struct.pack("<2f", 1, 2) + b"\x01\0\0\0a")
    assert [(tensor.name, tensor.data) for tensor in request.tensors.inputs] == [
        ("x", struct.pack("<2f", 1, 2)),
        ("listed", b"\x05"),
        ("s", b"\x01\0\0\0a"),
    ]
    assert request.tensors.request_id == "mine"


@pytest.mark.parametrize("size", [9, -1, "8", 8.0, True, None, 2**70])
def test_a_size_that_is_not_there_is_refused(size: object) -> None:
    error = refused({"inputs": [{**X, "parameters": {"binary_data_size": size}}]}, b"\0" * 8)
    assert error.violations[0].field == "inputs[0].parameters.binary_data_size"


def test_bytes_that_belong_to_no_input_are_malformed() -> None:
    error = refused({"inputs": [{**X, "parameters": {"binary_data_size": 8}}]}, b"\0" * 9)
    assert error.reason is Reason.MALFORMED_BODY
    assert "1 bytes" in error.message


@pytest.mark.parametrize("name", ["shared_memory_region", "classification", "sequence_start"])
def test_extensions_that_are_not_offered_are_refused(name: str) -> None:
    for document in (
        with_input(parameters={name: 1}),
        {**with_input(), "outputs": [{"name": "y", "parameters": {name: 1}}]},
        {**with_input(), "parameters": {name: 1}},
    ):
        assert refused(document).reason is Reason.NOT_IMPLEMENTED


def test_each_output_has_the_form_that_was_asked_for() -> None:
    document = {
        **with_input(),
        "id": "mine",
        "outputs": [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}],
    }
    request = read(document)
    assert request.tensors.outputs == ("a", "b")
    result = InferResult((tensor_of("a", DataType.INT8, (1, 2), [1, 2]), tensor_of("b", DataType.FP32, (1,), [0.1])))
    body, length = oip_json.write(request, result, model_name="digits", version="v1.0.0")
    assert length is not None
    assert body[length:] == b"\x01\x02"
    assert json.loads(body[:length]) == {
        "id": "mine",
        "model_name": "digits",
        "model_version": "v1.0.0",
        "outputs": [
            {"name": "a", "datatype": "INT8", "shape": [1, 2], "parameters": {"binary_data_size": 2}},
            {"name": "b", "datatype": "FP32", "shape": [1], "data": [0.1]},
        ],
    }


def test_all_outputs_are_bytes_where_the_request_says_so_and_one_is_not() -> None:
    document = {
        **with_input(),
        "parameters": {"binary_data_output": True, "top_k": 3},
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    }
    request = read(document)
    assert request.tensors.parameters == (("top_k", 3),)
    result = InferResult((tensor_of("a", DataType.INT8, (1,), [1]), tensor_of("b", DataType.BOOL, (1,), [True])))
    body, length = oip_json.write(request, result, model_name="digits", version="v1.0.0")
    assert body[length:] == b"\x01"
    assert json.loads(body[:length])["outputs"][1]["data"] == [True]


@pytest.mark.parametrize("data_type", [DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64])
def test_what_is_no_number_is_null_and_the_answer_stays_json(data_type: DataType) -> None:
    result = InferResult((tensor_of("y", data_type, (3,), [math.nan, math.inf, 0.5]),))
    body, length = oip_json.write(read(with_input()), result, model_name="digits", version="v1.0.0")
    assert length is None
    assert b"NaN" not in body
    assert json.loads(body)["outputs"][0]["data"] == [None, None, 0.5]


def test_the_largest_numbers_keep_their_digits() -> None:
    result = InferResult((tensor_of("y", DataType.UINT64, (1,), [2**64 - 1]),))
    body, _ = oip_json.write(read(with_input()), result, model_name="digits", version="v1.0.0")
    assert json.loads(body)["outputs"][0]["data"] == [2**64 - 1]


def test_texts_are_written_and_bytes_that_are_none_say_how_to_get_them() -> None:
    texts = InferResult((tensor_of("y", DataType.BYTES, (2,), ["é", ""]),))
    body, _ = oip_json.write(read(with_input()), texts, model_name="digits", version="v1.0.0")
    assert json.loads(body)["outputs"][0]["data"] == ["é", ""]
    opaque = InferResult((tensor_of("y", DataType.BYTES, (1,), [b"\xff"]),))
    with pytest.raises(MeshError, match="binary_data") as caught:
        oip_json.write(read(with_input()), opaque, model_name="digits", version="v1.0.0")
    assert caught.value.reason is Reason.NOT_IMPLEMENTED
