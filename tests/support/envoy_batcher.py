"""A batcher's double for tests of the gateway: under pyvoy, as the real one is, it answers with what it was sent.

Runs inside its own Envoy as `tests.support.envoy_batcher:app`, so nothing of the tests' process is here.
"""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from google.api import httpbody_pb2
from google.protobuf.message import Message
from inference import grpc_service_pb2
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_PREDICTION = "/infermesh.prediction.v1.PredictionService/"
_INFERENCE = "/inference.GRPCInferenceService/"
_FRAME = struct.Struct(">BI")


class _State:
    """What lasts between requests."""

    attempts: dict[str, int]

    def __init__(self) -> None:
        self.attempts = {}


_state = _State()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        return None
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    headers[":authority"] = headers.pop("host", "")
    if scope["path"] == "/ready":
        return await _answer(send, 200, b"ok")
    body = await _body(receive)
    if headers.get("x-test-sleep"):
        await asyncio.sleep(float(headers["x-test-sleep"]))
    key = headers.get("x-test-fails", "")
    if key:
        _state.attempts[key] = _state.attempts.get(key, 0) + 1
        if _state.attempts[key] <= int(headers["x-test-fails-count"]):
            return await _status(send, 14, "not now")
    if headers.get("x-test-status"):
        return await _status(send, int(headers["x-test-status"]), "as asked for")
    seen = {"path": scope["path"], "method": scope["method"], "bytes": len(body), "headers": headers}
    seen["attempts"] = _state.attempts.get(key, 1)
    if not scope["path"].startswith((_PREDICTION, _INFERENCE)):
        return await _answer(send, 200, json.dumps(seen).encode())
    await _grpc(send, [_reply(scope["path"], message, seen) for message in _messages(body, headers)])
    return None


def _reply(path: str, message: bytes, seen: dict[str, Any]) -> bytes:
    return bytes(_answered(path, message, seen).SerializeToString())


def _answered(path: str, message: bytes, seen: dict[str, Any]) -> Message:
    name = path.rpartition("/")[2]
    if name == "PredictJson":
        asked = prediction_service_pb2.PredictJsonRequest.FromString(message)
        said = {**seen, "model_name": asked.model_name, "body_bytes": len(asked.body.data)}
        body: Message = httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(said).encode())
        return body
    if name == "ModelInfer":
        infer = grpc_service_pb2.ModelInferRequest.FromString(message)
        return grpc_service_pb2.ModelInferResponse(model_name=infer.model_name, id=json.dumps(seen))
    request = prediction_pb2.PredictRequest.FromString(message)
    response = prediction_pb2.PredictResponse(model_name=request.model_name, request_id=json.dumps(seen))
    if name == "StreamPredict":
        return prediction_service_pb2.StreamPredictResponse(response=response)
    return response


def _messages(body: bytes, headers: dict[str, str]) -> list[bytes]:
    found = []
    while body:
        compressed, length = _FRAME.unpack_from(body)
        found.append(b"" if compressed else body[_FRAME.size : _FRAME.size + length])
        body = body[_FRAME.size + length :]
    return found


async def _body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


async def _answer(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


async def _grpc(send: Send, messages: list[bytes]) -> None:
    headers = [(b"content-type", b"application/grpc")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    for message in messages:
        framed = _FRAME.pack(0, len(message)) + message
        await send({"type": "http.response.body", "body": framed, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})


async def _status(send: Send, code: int, message: str) -> None:
    headers = [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", str(code).encode()),
        (b"grpc-message", message.encode()),
    ]
    if code == 8:
        headers.append((b"retry-after", b"3"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
