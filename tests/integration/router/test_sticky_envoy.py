"""Real gateways put every key where `domain.sticky` says: each of them, after restarts too, whatever the key holds."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence

import httpx
import pytest
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from services.router.domain.places import counted, in_order, moved_places, reassigned
from services.router.domain.routing import ModelRoutes, Share
from services.router.domain.sticky import PLACES, place_of, version_at
from tests.support.envoy_gateway import TIMEOUT_S, Gateway, running_gateway

HEADER = "x-session"
OLD, NEW, OTHER = "v1.0.0", "v2.0.0", "v3.0.0"
PLACED = tuple(Share(f"v{place}.0.0", 1) for place in range(PLACES))
"""A version at each place, so that a gateway's answer is the place."""
RUNS = (Share(NEW, 7), Share(OLD, 30), Share(OTHER, 23), Share(NEW, 13), Share(OLD, 27))
KEYS = [f"user-{number}" for number in range(2000)]


def sticky(model: str, shares: Sequence[Share]) -> ModelRoutes:
    versions = tuple(sorted({share.version for share in shares}))
    return ModelRoutes(model, versions, tuple(shares), sticky_header=HEADER)


MODELS = (sticky("placed", PLACED), sticky("runs", RUNS))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=MODELS) as running:
        yield running


def versions_of(gateway: Gateway, model: str, keys: Sequence[str] = KEYS) -> Mapping[str, str]:
    with gateway.channel() as channel:
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = prediction_pb2.PredictRequest(model_name=model)
        calls = {
            key: predictions.Predict.future(
                request, metadata=(("x-model-name", model), (HEADER, key)), timeout=TIMEOUT_S
            )
            for key in keys
        }
        return {key: json.loads(call.result().request_id)["headers"]["x-route-version"] for key, call in calls.items()}


def test_two_thousand_keys_are_where_the_function_says(gateway: Gateway) -> None:
    assert versions_of(gateway, "placed") == {key: PLACED[place_of("placed", key)].version for key in KEYS}
    assert versions_of(gateway, "runs") == {key: version_at(RUNS, place_of("runs", key)) for key in KEYS}


def test_keys_of_any_length_and_language_and_headers_that_are_repeated_too(gateway: Gateway) -> None:
    odd = ["a", "żółw", "名前", "🐢" * 40, "with space", "a,b", "=;{}", "x" * 20_000, *(secrets.token_urlsafe(20),) * 2]
    values = [(key,) for key in odd] + [("b", "a"), ("a", "b"), ("same", "same"), ("ż", "z", "a"), ("", "a")]
    values += [(f"użytkownik-{number}",) for number in range(200)]
    with httpx.Client(base_url=f"http://{gateway.address}", timeout=TIMEOUT_S, trust_env=False) as client:
        for keys in values:
            headers = [(HEADER.encode(), key.encode()) for key in keys]
            answer = client.post("/v1/models/placed/predict", json={}, headers=headers)
            assert answer.status_code == 200, answer.text
            expected = PLACED[place_of("placed", *keys)].version
            assert answer.json()["headers"]["x-route-version"] == expected, keys


def test_another_gateway_and_one_that_starts_again_agree(
    gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = versions_of(gateway, "runs")
    with running_gateway(tmp_path_factory.mktemp("other"), publish=MODELS) as other:
        assert versions_of(other, "runs") == first
        other.do(other.envoy.stop())
        other.envoy = other.do(other.start_part(other.envoy_part()))
        assert versions_of(other, "runs") == first


def test_whoever_has_a_version_that_grows_keeps_it_and_no_more_keys_move_than_places(gateway: Gateway) -> None:
    shares = in_order({OTHER: 10, OLD: 90})
    seen = None
    for weights in (
        {OTHER: 10, OLD: 90},
        {NEW: 1, OTHER: 10, OLD: 89},
        {NEW: 30, OTHER: 5, OLD: 65},
        {NEW: 10, OTHER: 40, OLD: 50},
        {NEW: 100, OTHER: 0, OLD: 0},
    ):
        before, shares = shares, reassigned(shares, weights)
        gateway.publish(*MODELS, sticky("moving", shares))
        now = versions_of(gateway, "moving")
        assert now == {key: version_at(shares, place_of("moving", key)) for key in KEYS}
        if seen is not None:
            grown = {version for version, share in counted(shares).items() if share >= counted(before).get(version, 0)}
            assert [key for key, was in seen.items() if was in grown and now[key] != was] == []
            moved = sum(now[key] != was for key, was in seen.items()) / len(KEYS)
            assert abs(moved - moved_places(before, shares) / PLACES) < 0.06
        seen = now
