"""A batcher's double for tests of the gateway: over the bridge, as the real one is, it answers with what it was sent.

Runs inside its own Envoy as `tests.support.envoy_batcher:app`, so nothing of the tests' process is here.
"""

import asyncio
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from google.api import httpbody_pb2
from google.protobuf.message import Message
from inference import grpc_service_pb2
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2

from services.batcher.bridge.messages import Answer, Handler, Request, StreamHandler, answer

_PREDICTION = "/infermesh.prediction.v1.PredictionService/"
_INFERENCE = "/inference.GRPCInferenceService/"
_FRAME = struct.Struct(">BI")
_JSON = (b"content-type", b"application/json")
_GRPC = (b"content-type", b"application/grpc")


class _State:
    """What lasts between requests."""

    attempts: dict[str, int]

    def __init__(self) -> None:
        self.attempts = {}


_state = _State()


class Double:
    """The site."""

    async def start(self) -> None:
        """Nothing must be started."""

    async def stop(self) -> None:
        """Nothing runs."""

    @property
    def streams(self) -> Mapping[str, StreamHandler]:
        """Streams are answered when they are complete."""
        return {}

    def finder(self) -> Callable[[str], Handler]:
        """Everything is answered in one place."""
        return lambda _path: answered


app = Double


async def answered(request: Request) -> Answer:
    """The answer to a request: what came, or what its headers ask for."""
    headers = {name.decode(): value.decode(errors="replace") for name, value in request.headers.items()}
    path, body = request.path, request.body
    if path == "/ready":
        return answer(200, b"ok", [_JSON])
    if headers.get("x-test-sleep"):
        await asyncio.sleep(float(headers["x-test-sleep"]))
    key = headers.get("x-test-fails", "")
    if key:
        _state.attempts[key] = _state.attempts.get(key, 0) + 1
        if _state.attempts[key] <= int(headers["x-test-fails-count"]):
            return _status(14, "not now")
    if headers.get("x-test-status"):
        return _status(int(headers["x-test-status"]), "as asked for")
    seen = {"path": path, "method": request.method, "bytes": len(body), "headers": headers}
    seen["attempts"] = _state.attempts.get(key, 1)
    if not path.startswith((_PREDICTION, _INFERENCE)):
        return answer(200, json.dumps(seen).encode(), [_JSON])
    replies = [_reply(path, message, seen) for message in _messages(body, headers)]
    framed = b"".join(_FRAME.pack(0, len(reply)) + reply for reply in replies)
    return answer(200, framed, [_GRPC], [(b"grpc-status", b"0")])


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


def _status(code: int, message: str) -> Answer:
    headers = [_GRPC, (b"grpc-status", str(code).encode()), (b"grpc-message", message.encode())]
    if code == 8:
        headers.append((b"retry-after", b"3"))
    return answer(200, b"", headers)
