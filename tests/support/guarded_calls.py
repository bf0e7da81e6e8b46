"""The same prediction in every way in which callers make it, and how the gateway answered."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from tests.support.envoy_gateway import TIMEOUT_S, Gateway

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answered:
    """An answer, whatever the protocol."""

    code: int
    """As `google.rpc.Code`."""
    reason: str = ""
    message: str = ""
    seen: Mapping[str, Any] = field(default_factory=dict)
    """What the batcher saw."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the request, as the batcher saw it."""
        return dict(self.seen["headers"])


def _over_rest(gateway: Gateway, headers: Headers) -> Answered:
    answer = gateway.rest("POST", "/v1/models/digits/predict", json={"instances": []}, headers=list(headers))
    body = answer.json()
    if answer.status_code == 200:
        return Answered(0, seen=body)
    assert set(body) == {"code", "message", "details"}, body
    assert {7: 403, 14: 503, 16: 401}[body["code"]] == answer.status_code
    [details] = body["details"]
    assert details["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert details["domain"] == "infermesh"
    return Answered(body["code"], details["reason"], body["message"])


def _over_open_inference(gateway: Gateway, headers: Headers) -> Answered:
    answer = gateway.rest("POST", "/v2/models/digits/infer", json={"inputs": []}, headers=list(headers))
    body = answer.json()
    if answer.status_code == 200:
        return Answered(0, seen=body)
    assert set(body) == {"error", "reason"}, body
    return Answered({403: 7, 503: 14, 401: 16}[answer.status_code], body["reason"], body["error"])


def _over_grpc(gateway: Gateway, headers: Headers) -> Answered:
    def call(channel: grpc.Channel) -> str:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = prediction_pb2.PredictRequest(model_name="digits")
        return str(stub.Predict(request, metadata=tuple(headers), timeout=TIMEOUT_S).request_id)

    return _called(gateway, call)


def _over_stream(gateway: Gateway, headers: Headers) -> Answered:
    def call(channel: grpc.Channel) -> str:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = prediction_pb2.PredictRequest(model_name="digits")
        [answer] = list(stub.StreamPredict(iter([request]), metadata=tuple(headers), timeout=TIMEOUT_S))
        return str(answer.response.request_id)

    return _called(gateway, call)


def _over_open_inference_grpc(gateway: Gateway, headers: Headers) -> Answered:
    def call(channel: grpc.Channel) -> str:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = grpc_service_pb2.ModelInferRequest(model_name="digits")
        return str(stub.ModelInfer(request, metadata=tuple(headers), timeout=TIMEOUT_S).id)

    return _called(gateway, call)


def _called(gateway: Gateway, call: Callable[[grpc.Channel], str]) -> Answered:
    with gateway.channel() as channel:
        try:
            return Answered(0, seen=json.loads(call(channel)))
        except grpc.RpcError as error:
            return refused(error)


def refused(error: Any) -> Answered:
    """What a gRPC caller is told. `error` is the call that failed, as grpc raises it."""
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    status = status_pb2.Status.FromString(raw)
    [details] = status.details
    info = error_details_pb2.ErrorInfo()
    assert details.Unpack(info)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return Answered(status.code, info.reason, status.message)


Way = Callable[[Gateway, Headers], Answered]
WAYS: Mapping[str, Way] = {
    "rest": _over_rest,
    "open inference": _over_open_inference,
    "grpc": _over_grpc,
    "stream": _over_stream,
    "open inference over grpc": _over_open_inference_grpc,
}
