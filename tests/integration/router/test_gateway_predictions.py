"""How predictions find their model and their version, over every protocol."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2, prediction_service_pb2_grpc

from tests.support.envoy_gateway import TIMEOUT_S, Gateway, running_gateway, split

OLD, NEW = "v1.0.0", "v2.0.0"
MODELS = (
    split("whole", {OLD: 100}),
    split("split", {NEW: 30, OLD: 70}),
    split("sticky", {NEW: 30, OLD: 70}, sticky_header="x-user-id"),
    split("other", {NEW: 30, OLD: 70}, sticky_header="x-user-id"),
    split("idle", {OLD: 0}),
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=MODELS) as running:
        yield running


@pytest.fixture
def predictions(gateway: Gateway) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    with gateway.channel() as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def over_rest(gateway: Gateway, model: str, **headers: str) -> dict[str, Any]:
    """What the batcher saw of a REST prediction."""
    answer = gateway.rest("POST", f"/v1/models/{model}/predict", json={"instances": []}, headers=headers)
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert isinstance(seen, dict)
    return seen


def over_open_inference(gateway: Gateway, model: str, **headers: str) -> dict[str, Any]:
    answer = gateway.rest("POST", f"/v2/models/{model}/infer", json={"inputs": []}, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def over_grpc(gateway: Gateway, model: str, **headers: str) -> dict[str, Any]:
    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(
            prediction_pb2.PredictRequest(model_name=model), metadata=tuple(headers.items()), timeout=TIMEOUT_S
        )
    assert answer.model_name == model
    return dict(json.loads(answer.request_id))


def over_grpc_json(gateway: Gateway, model: str, **headers: str) -> dict[str, Any]:
    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.PredictJson(
            prediction_service_pb2.PredictJsonRequest(model_name=model),
            metadata=tuple(headers.items()),
            timeout=TIMEOUT_S,
        )
    return dict(json.loads(answer.data))


def over_grpc_open_inference(gateway: Gateway, model: str, **headers: str) -> dict[str, Any]:
    with gateway.channel() as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(
            grpc_service_pb2.ModelInferRequest(model_name=model), metadata=tuple(headers.items()), timeout=TIMEOUT_S
        )
    return dict(json.loads(answer.id))


PROTOCOLS = [over_rest, over_open_inference, over_grpc, over_grpc_json, over_grpc_open_inference]
protocols = pytest.mark.parametrize("ask", PROTOCOLS, ids=lambda ask: ask.__name__)


def route_of(seen: dict[str, Any]) -> str | None:
    version = seen["headers"].get("x-route-version")
    assert version is None or isinstance(version, str)
    return version


@protocols
def test_the_only_version_is_named(gateway: Gateway, ask: Any) -> None:
    assert route_of(ask(gateway, "whole")) == OLD


@protocols
def test_a_model_without_traffic_or_unknown_is_left_to_the_batcher(gateway: Gateway, ask: Any) -> None:
    for model in ("idle", "never-heard-of", "NO_NAME", "a" * 300):
        seen = ask(gateway, model)
        assert route_of(seen) is None
        assert seen["headers"]["x-mesh-model"] in ("-", model)


NO_NAMES = ("", "x\r\nx-route-version: v6.6.6", "x\0", "\x7f", "*", "\u540d", "x" * 100_000)


@pytest.mark.parametrize("ask", PROTOCOLS[2:], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("model", NO_NAMES, ids=range(len(NO_NAMES)))
def test_whatever_stands_in_a_message_as_the_models_name_reaches_the_batcher(
    gateway: Gateway, ask: Any, model: str
) -> None:
    seen = ask(gateway, model)["headers"]
    assert "x-route-version" not in seen
    assert seen["x-mesh-model"] == "-"


@protocols
def test_a_version_asked_for_by_header_is_handed_on_alone(gateway: Gateway, ask: Any) -> None:
    for model in ("whole", "split", "sticky", "never-heard-of"):
        seen = ask(gateway, model, **{"x-model-version": "v9.9.9"})
        assert seen["headers"]["x-model-version"] == "v9.9.9"
        assert route_of(seen) is None


@protocols
def test_what_only_the_gateway_may_say_is_taken_away(gateway: Gateway, ask: Any) -> None:
    forged = {
        "x-route-version": "v6.6.6",
        "x-split": "1",
        "x-mesh-model": "split",
        "x-mesh-anything": "1",
        "x-infermesh-team": "theirs",
        "x-infermesh-user": "someone",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-retry-on": "5xx",
        "x-envoy-original-path": "/v1/models/split/predict",
    }
    for model, version in (("whole", OLD), ("never-heard-of", None)):
        seen = ask(gateway, model, **forged)["headers"]
        assert seen.get("x-route-version") == version
        assert seen["x-mesh-model"] in ((model,) if version else (model, "-"))
        assert seen.get("x-envoy-original-path") in (None, f"/v1/models/{model}/predict")
        gone = set(forged) - {"x-route-version", "x-mesh-model", "x-envoy-original-path"}
        assert {name for name in gone if name in seen} == set()


@protocols
def test_request_id_and_trace_are_kept_and_an_id_is_made(gateway: Gateway, ask: Any) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request_id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    for mine in ("caller-chose-this", request_id):
        seen = ask(gateway, "whole", **{"x-request-id": mine, "traceparent": trace})["headers"]
        assert (seen["x-request-id"], seen["traceparent"]) == (mine, trace)
    made = {ask(gateway, "whole")["headers"]["x-request-id"] for _ in range(3)}
    assert len(made) == 3


def test_the_split_follows_the_weights(predictions: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    count = 2000
    metadata = (("x-model-name", "split"),)
    request = prediction_pb2.PredictRequest(model_name="split")
    calls = [predictions.Predict.future(request, metadata=metadata, timeout=TIMEOUT_S) for _ in range(count)]
    seen = Counter(json.loads(call.result().request_id)["headers"]["x-route-version"] for call in calls)
    # Five standard deviations of a fair draw.
    assert abs(seen[NEW] - 0.3 * count) < 5 * (count * 0.3 * 0.7) ** 0.5
    assert seen[NEW] + seen[OLD] == count


def versions_of(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub, model: str, users: range
) -> dict[int, str]:
    calls = {
        user: predictions.Predict.future(
            prediction_pb2.PredictRequest(model_name=model),
            metadata=(("x-model-name", model), ("x-user-id", f"user-{user}")),
            timeout=TIMEOUT_S,
        )
        for user in users
    }
    return {user: json.loads(call.result().request_id)["headers"]["x-route-version"] for user, call in calls.items()}


def test_a_user_keeps_the_version_also_when_it_grows(
    gateway: Gateway, predictions: prediction_service_pb2_grpc.PredictionServiceStub
) -> None:
    users = range(1000)
    before = versions_of(predictions, "sticky", users)
    assert versions_of(predictions, "sticky", users) == before
    first = {user for user, version in before.items() if version == NEW}
    assert abs(len(first) - 300) < 5 * (1000 * 0.3 * 0.7) ** 0.5
    gateway.publish(*MODELS[:2], split("sticky", {NEW: 60, OLD: 40}, sticky_header="x-user-id"), *MODELS[3:])
    later = {user for user, version in versions_of(predictions, "sticky", users).items() if version == NEW}
    assert first < later
    assert abs(len(later) - 600) < 5 * (1000 * 0.6 * 0.4) ** 0.5
    gateway.publish(*MODELS)
    assert versions_of(predictions, "sticky", users) == before


def test_who_is_first_for_one_model_is_not_first_for_all(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    users = range(1000)
    one, other = (versions_of(predictions, model, users) for model in ("sticky", "other"))
    both = sum(one[user] == NEW and other[user] == NEW for user in users)
    # Independent draws meet in 9 of 100; the same draw would in 30.
    assert 40 < both < 160


@protocols
def test_the_same_user_gets_the_same_version_over_every_protocol(gateway: Gateway, ask: Any) -> None:
    expected = {user: route_of(over_grpc(gateway, "sticky", **{"x-user-id": user})) for user in ("ann", "bob", "eve")}
    for user, version in expected.items():
        assert {route_of(ask(gateway, "sticky", **{"x-user-id": user})) for _ in range(3)} == {version}


def test_without_the_sticky_header_or_with_an_empty_one_it_is_a_new_throw(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    for metadata in ((), (("x-user-id", ""),)):
        request = prediction_pb2.PredictRequest(model_name="sticky")
        calls = [predictions.Predict.future(request, metadata=metadata, timeout=TIMEOUT_S) for _ in range(100)]
        seen = {json.loads(call.result().request_id)["headers"]["x-route-version"] for call in calls}
        assert seen == {OLD, NEW}


def test_the_header_with_the_models_name_spares_the_look_into_the_body(gateway: Gateway) -> None:
    """It is believed where it is there, so it must be the header that was used."""
    assert route_of(over_grpc(gateway, "never-heard-of", **{"x-model-name": "whole"})) == OLD


def test_a_name_that_is_written_twice_or_in_capitals_is_left_to_the_batcher(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    for written in (("whole", "whole"), ("whole", "split"), ("WHOLE",)):
        metadata = tuple(("x-model-name", name) for name in written)
        request = prediction_pb2.PredictRequest(model_name="whole")
        answer = predictions.Predict(request, metadata=metadata, timeout=TIMEOUT_S)
        assert route_of(json.loads(answer.request_id)) is None


def test_over_rest_the_path_alone_names_the_model(gateway: Gateway) -> None:
    assert route_of(over_rest(gateway, "never-heard-of", **{"x-model-name": "whole"})) is None
    assert route_of(over_open_inference(gateway, "never-heard-of", **{"x-model-name": "whole"})) is None


def test_a_compressed_message_is_left_to_the_batcher(gateway: Gateway) -> None:
    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = prediction_pb2.PredictRequest(model_name="whole", parameters={"a": "b" * 10_000})
        answer = stub.Predict(request, compression=grpc.Compression.Gzip, timeout=TIMEOUT_S)
    seen = json.loads(answer.request_id)
    assert seen["headers"]["grpc-encoding"] == "gzip"
    assert route_of(seen) is None


def test_a_stream_has_no_version_because_its_requests_may_be_for_many_models(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    asked = [prediction_pb2.PredictRequest(model_name=model) for model in ("whole", "split", "sticky")]
    answers = list(predictions.StreamPredict(iter(asked), metadata=(("x-model-name", "whole"),), timeout=TIMEOUT_S))
    assert [answer.response.model_name for answer in answers] == ["whole", "split", "sticky"]
    assert {route_of(json.loads(answer.response.request_id)) for answer in answers} == {None}


def test_open_inference_paths_pass_as_they_are(gateway: Gateway) -> None:
    for method, path, version in (
        ("GET", "/v2", None),
        ("GET", "/v2/health/live", None),
        ("GET", "/v2/models/whole", None),
        ("GET", "/v2/models/whole/ready", None),
        ("POST", "/v2/models/whole/versions/v2.0.0/infer", None),
        ("POST", "/v2/models/whole/infer", OLD),
    ):
        answer = gateway.rest(method, path)
        assert answer.status_code == 200, answer.text
        assert answer.json()["path"] == path
        assert answer.json()["method"] == method
        assert route_of(answer.json()) == version


def test_the_json_of_a_prediction_reaches_the_batcher_byte_for_byte(gateway: Gateway) -> None:
    body = b'{"instances":  [{"x": 1.0e0}], "unknown": {"to": ["the", "gateway"]}}'
    answer = gateway.rest("POST", "/v1/models/whole/predict", content=body)
    assert answer.json()["body_bytes"] == len(body)
    assert answer.json()["path"] == "/infermesh.prediction.v1.PredictionService/PredictJson"


@pytest.mark.parametrize("path", ["/v1/models/whole/predict", "/v2/models/whole/infer"])
def test_bodies_up_to_the_limit_pass_and_larger_ones_are_told_so(gateway: Gateway, path: str) -> None:
    answer = gateway.rest("POST", path, content=b" " * 10_000_000, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] >= 10_000_000
    refused = gateway.rest("POST", path, content=b" " * 16_000_000, headers={"content-type": "application/json"})
    assert refused.status_code == 413
    said = refused.json()
    if path.startswith("/v2"):
        assert said.keys() == {"error", "reason"}, "what clients of that protocol read"
        assert (said["reason"], "12 MB" in said["error"]) == ("MESSAGE_TOO_LARGE", True)
    else:
        assert (said["code"], "12 MB" in said["message"]) == (3, True)
        assert said["details"][0]["reason"] == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("metadata", [(), (("x-model-name", "whole"),)], ids=["in the message", "in the header"])
def test_large_messages_pass(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub, metadata: tuple[tuple[str, str], ...]
) -> None:
    request = prediction_pb2.PredictRequest(model_name="whole", parameters={"a": "b" * 10_000_000})
    seen = json.loads(predictions.Predict(request, metadata=metadata, timeout=TIMEOUT_S).request_id)
    assert seen["bytes"] > 10_000_000
    assert route_of(seen) == OLD


def test_a_message_over_the_limit_is_told_so(predictions: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    request = prediction_pb2.PredictRequest(model_name="whole", parameters={"a": "b" * 16_000_000})
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "12 MB" in (caught.value.details() or "")
