"""Requests as Triton reads them, answers as it writes them."""

import struct

import orjson
import pytest

from services.batcher.adapters.http_wire import GarbledError, Response, ResponseParser
from services.batcher.adapters.triton_wire import RequestFormat, read_failure, read_outputs
from services.batcher.domain.failure import FailureKind
from services.batcher.domain.shape import CallShape, InputShape
from services.common.schema import DataType, TensorSpec

X = InputShape("x", DataType.FP32, (2,), 8)
TEXT = InputShape('50% "off"', DataType.BYTES, (), -1)
Y = TensorSpec("y", DataType.INT64)


def shape(
    *inputs: InputShape, outputs: tuple[TensorSpec, ...] = (Y,), **parameters: str | int | float | bool
) -> CallShape:
    return CallShape("m", "v1", inputs, outputs, tuple(sorted(parameters.items())))


def written(
    one: CallShape, rows: int, sizes: list[int], buffers: list[bytes]
) -> tuple[list[str], dict[str, object], bytes]:
    """Head lines, JSON and data of a request."""
    raw = RequestFormat(one, server_model_name="m--v1 100%", host="h:1").write(rows, sizes, buffers)
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines[1:])
    assert int(headers["Content-Length"]) == len(body)
    at = int(headers["Inference-Header-Content-Length"])
    return lines, orjson.loads(body[:at]), body[at:]


def test_one_tensor() -> None:
    data = [struct.pack("<2f", 1, 2), struct.pack("<4f", 3, 4, 5, 6)]
    lines, meta, body = written(shape(X), 3, [24], data)
    assert lines[0] == "POST /v2/models/m--v1%20100%25/infer HTTP/1.1"
    assert "Host: h:1" in lines
    assert meta == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 2], "parameters": {"binary_data_size": 24}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    assert body == b"".join(data)


def test_a_traced_batch_says_so() -> None:
    wire = RequestFormat(shape(X), server_model_name="m", host="h:1")
    data = [struct.pack("<2f", 1, 2)]
    plain, traced = wire.write(1, [8], data), wire.write(1, [8], data, traceparent=b"00-ab-cd-01")
    head, _, body = traced.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[-1] == b"traceparent: 00-ab-cd-01"
    assert (head.rpartition(b"\r\n")[0], body) == (plain.partition(b"\r\n\r\n")[0], plain.partition(b"\r\n\r\n")[2])


def test_several_tensors_texts_and_parameters() -> None:
    _, meta, body = written(shape(X, TEXT, top_k=5, mode="100%"), 1, [8, 6], [b"12345678", b"\2\0\0\0ab"])
    inputs = meta["inputs"]
    assert isinstance(inputs, list)
    assert inputs[1] == {
        "name": '50% "off"',
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": 6},
    }
    assert meta["parameters"] == {"top_k": 5, "mode": "100%"}
    assert body == b"12345678\2\0\0\0ab"


def test_without_a_schema_of_outputs_all_come_back_in_binary() -> None:
    _, meta, _ = written(shape(X, outputs=(), binary_data_output=False), 1, [8], [b"12345678"])
    assert "outputs" not in meta
    assert meta["parameters"] == {"binary_data_output": True}


def answer(outputs: object, data: bytes, *, status: int = 200) -> Response:
    meta = orjson.dumps({"model_name": "m", "outputs": outputs})
    head = b"HTTP/1.1 %d X\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    raw = head % (status, len(meta), len(meta) + len(data)) + meta + data
    response = ResponseParser(body_bytes_max=1 << 20).feed(raw)
    assert response is not None
    return response


def output(name: str, datatype: str, dims: list[int], size: int) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": dims, "parameters": {"binary_data_size": size}}


def test_tensors_of_an_answer() -> None:
    tensors = read_outputs(answer([output("a", "INT64", [1], 8), output("b", "BYTES", [1], 5)], b"12345678\1\0\0\0z"))
    assert [(one.name, one.data_type, one.shape, bytes(one.data)) for one in tensors] == [
        ("a", DataType.INT64, (1,), b"12345678"),
        ("b", DataType.BYTES, (1,), b"\1\0\0\0z"),
    ]


@pytest.mark.parametrize(
    ("outputs", "data"),
    [
        ([{"name": "a", "datatype": "INT64", "shape": [1], "data": [1]}], b""),
        ([output("a", "INT128", [1], 8)], b"12345678"),
        ([output("a", "INT64", [1], 16)], b"12345678"),
        ([output("a", "INT64", [1], 4)], b"12345678"),
        ("none", b""),
        ([7], b""),
    ],
)
def test_an_answer_that_does_not_add_up_is_refused(outputs: object, data: bytes) -> None:
    with pytest.raises(GarbledError):
        read_outputs(answer(outputs, data))


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b'{"error":"Request for unknown model: \'m\' is not found"}', FailureKind.MISSING, "unknown model"),
        (400, b'{"error":"Request for unknown model: \'m\' has no available versions"}', FailureKind.MISSING, "no av"),
        (503, b'{"error":"full"}', FailureKind.OVERLOADED, "full"),
        (500, b'{"error":"Stub process \'m_0\' is not healthy."}', FailureKind.CRASHED, "Stub"),
        (500, b'{"error":"ValueError: 99\\n\\nAt:\\n  /a/model.py(7): run\\n"}', FailureKind.MODEL, "^ValueError: 99$"),
        (400, b'{"error":"unexpected shape"}', FailureKind.MODEL, "shape"),
        (500, b"<html>", FailureKind.MODEL, "<html>"),
        (500, b"", FailureKind.MODEL, "HTTP 500"),
    ],
)
def test_what_an_error_means(status: int, body: bytes, kind: FailureKind, message: str) -> None:
    failure = read_failure(Response(status, None, memoryview(body), True))
    assert failure.kind is kind
    with pytest.raises(RuntimeError, match=message):
        raise RuntimeError(failure.message)
