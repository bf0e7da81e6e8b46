"""What callers are told when something behind the gateway is slow, fails or is not there, and what is tried again."""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from tests.support.envoy_gateway import TIMEOUT_S, Gateway, running_gateway, split
from tests.support.waiting import until

PREDICT = "/v1/models/digits/predict"


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=[split("digits", {"v1.0.0": 100})]) as running:
        yield running


def predict(gateway: Gateway, *metadata: tuple[str, str], timeout_s: float | None = TIMEOUT_S) -> dict[str, Any]:
    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = prediction_pb2.PredictRequest(model_name="digits")
        return dict(json.loads(stub.Predict(request, metadata=metadata, timeout=timeout_s).request_id))


def test_deadlines_reach_those_who_answer_and_end_calls(gateway: Gateway) -> None:
    assert predict(gateway)["headers"]["grpc-timeout"]
    began_s = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        predict(gateway, ("x-test-sleep", "10"), timeout_s=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began_s < 8  # the answer would have come after 10
    # The gateway ends it by itself, for a caller that states a deadline and then does not look at the clock.
    began_s = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        predict(gateway, ("x-test-sleep", "10"), ("grpc-timeout", "300m"), timeout_s=None)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "time was up" in (caught.value.details() or "")
    assert time.monotonic() - began_s < 8  # the answer would have come after 10
    answer = gateway.rest("POST", PREDICT, json={}, headers={"x-test-sleep": "10", "grpc-timeout": "300m"})
    assert answer.status_code == 504
    assert (answer.json()["code"], answer.json()["details"][0]["reason"]) == (4, "DEADLINE_TOO_SHORT")


@pytest.mark.parametrize("asked", [(), (("x-model-version", "v1.0.0"),), (("x-model-name", "digits"),)], ids=str)
def test_a_batcher_sees_which_attempt_it_answers_and_callers_do_not_say_it(
    gateway: Gateway, asked: tuple[tuple[str, str], ...]
) -> None:
    forged = ("x-envoy-attempt-count", "7")
    assert predict(gateway, *asked, forged)["headers"]["x-envoy-attempt-count"] == "1"
    failing = (("x-test-fails", secrets.token_hex(4)), ("x-test-fails-count", "2"))
    assert predict(gateway, *asked, *failing, forged)["headers"]["x-envoy-attempt-count"] == "3"
    answer = gateway.rest("POST", PREDICT, json={}, headers=dict([forged]))
    assert answer.json()["headers"]["x-envoy-attempt-count"] == "1"


def test_a_refusal_that_may_pass_is_tried_again_and_others_are_not(gateway: Gateway) -> None:
    key = secrets.token_hex(4)
    assert predict(gateway, ("x-test-fails", key), ("x-test-fails-count", "2"))["attempts"] == 3
    with pytest.raises(grpc.RpcError) as caught:
        predict(gateway, ("x-test-fails", secrets.token_hex(4)), ("x-test-fails-count", "50"))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "not now")
    for status in ("3", "13"):
        key = secrets.token_hex(4)
        with pytest.raises(grpc.RpcError):
            predict(gateway, ("x-test-status", status), ("x-test-fails", key), ("x-test-fails-count", "0"))
        assert predict(gateway, ("x-test-fails", key), ("x-test-fails-count", "0"))["attempts"] == 2


def test_a_stream_of_which_nothing_was_answered_is_begun_anew(gateway: Gateway) -> None:
    metadata = (("x-test-fails", secrets.token_hex(4)), ("x-test-fails-count", "1"))
    request = prediction_pb2.PredictRequest(model_name="digits")
    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answers = list(stub.StreamPredict(iter([request, request]), metadata=metadata, timeout=TIMEOUT_S))
    assert [json.loads(answer.response.request_id)["attempts"] for answer in answers] == [2, 2]


def test_a_dead_batcher_is_said_in_every_protocol_and_noticed_as_not_ready(gateway: Gateway) -> None:
    gateway.do(gateway.batcher.stop())
    answer = gateway.rest("POST", PREDICT, json={})
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] == 14
    assert "try again" in answer.json()["message"]
    assert answer.json()["details"][0]["reason"] == "DEPENDENCY_UNAVAILABLE"
    assert answer.headers["retry-after"] == "1"
    assert gateway.rest("POST", "/v2/models/digits/infer", json={}).status_code == 503
    with pytest.raises(grpc.RpcError) as caught:
        predict(gateway)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not (caught.value.details() or "{").startswith("{")
    until(lambda: gateway.rest("GET", "/ready").status_code == 503, what="the gateway notices")
    assert gateway.rest("GET", "/health").status_code == 200
    # The control plane is not touched, and a new batcher is found at once.
    assert gateway.rest("GET", "/v1/models/digits").status_code == 200
    gateway.batcher = gateway.do(gateway.start_part(gateway.batcher_part()))
    until(lambda: gateway.rest("POST", PREDICT, json={}).status_code == 200, what="predictions are back")
    until(lambda: gateway.rest("GET", "/ready").status_code == 200, what="the gateway is ready again")


def test_a_batcher_that_dies_in_the_middle_costs_nobody_an_answer_where_there_is_another(gateway: Gateway) -> None:
    """The answer that was under way is made anew: predictions change nothing."""
    other = gateway.do(gateway.start_other_batcher())
    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        call = stub.Predict.future(
            prediction_pb2.PredictRequest(model_name="digits"), metadata=(("x-test-sleep", "2"),), timeout=TIMEOUT_S
        )
        active = "cluster.batcher.upstream_rq_active"
        until(lambda: gateway.stats(active)[active] == 1, what="it is asked")
        gateway.do(gateway.replace_batchers([gateway.batcher_port, other]))
        healthy = "cluster.batcher.membership_healthy"
        until(lambda: gateway.stats(healthy)[healthy] == 2, what="both are healthy")
        gateway.do(gateway.batcher.stop())
        assert call.result().model_name == "digits"


def test_dead_services_are_said_and_predictions_go_on(gateway: Gateway) -> None:
    gateway.do(gateway.stop_services())
    answer = gateway.rest("GET", "/v1/models/digits")
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] == 14
    assert answer.headers["retry-after"] == "1"
    with gateway.channel() as channel:
        stub = registry_service_pb2_grpc.RegistryServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert gateway.rest("POST", PREDICT, json={}).status_code == 200


def test_failures_are_logged_and_nothing_else_is(gateway: Gateway) -> None:
    for _ in range(5):
        gateway.rest("POST", PREDICT, json={})
    gateway.rest("GET", "/v1/nothing")
    answer = gateway.rest(
        "POST", PREDICT, json={}, headers={"x-test-status": "13", "x-request-id": "the-one-that-failed"}
    )
    assert answer.status_code == 500
    until(lambda: "the-one-that-failed" in gateway.log, what="the failure is logged")
    lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    assert [(line["path"], line["model"], line["request_id"]) for line in lines] == [
        (PREDICT, "digits", "the-one-that-failed")
    ]
