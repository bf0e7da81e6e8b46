"""Predictions over REST, body and errors exactly as the contract states them."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.driving import MODEL, NEW, OLD, Rest, reason, violations
from tests.support.mesh import Mesh
from tests.support.waiting import until

PATH = f"/v1/models/{MODEL}/predict"
BODY_MAX_BYTES = 10_000_000


@pytest.fixture
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


def test_every_digit_is_recognised_and_the_answer_has_exactly_the_documented_fields(mesh: Mesh, rest: Rest) -> None:
    agreed = mesh.samples[:10]
    answer = rest.predict({"instances": [sample["instance"] for sample in agreed]})
    assert set(answer) == {"predictions", "model_name", "model_version", "latency_ms", "request_id"}
    assert answer["model_name"] == MODEL
    assert answer["model_version"] == OLD
    assert isinstance(answer["latency_ms"], int | float)
    assert 0 < answer["latency_ms"] < 10_000
    assert len(answer["predictions"]) == 10
    for sample, prediction in zip(agreed, answer["predictions"], strict=True):
        assert prediction["class"] == str(sample["label"])
        assert prediction["output"] == sample["label"]
        probabilities = prediction["probabilities"]
        assert set(probabilities) == {str(digit) for digit in range(10)}
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-4)
        assert max(probabilities, key=probabilities.__getitem__) == prediction["class"]
        assert prediction["confidence"] == pytest.approx(max(probabilities.values()), abs=1e-6)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_version_named_in_the_body_answers(mesh: Mesh, rest: Rest, version: str) -> None:
    # The last samples are those on which the two versions differ, so the version that answered can be told.
    answer = rest.predict({"version": version, "instances": [sample["instance"] for sample in mesh.samples]})
    assert answer["model_version"] == version
    assert [item["output"] for item in answer["predictions"]] == [item["expected"][version] for item in mesh.samples]


def test_the_versions_differ_somewhere(mesh: Mesh) -> None:
    assert any(sample["expected"][OLD] != sample["expected"][NEW] for sample in mesh.samples)


def test_a_version_named_in_the_header_answers_and_the_body_wins(mesh: Mesh, rest: Rest) -> None:
    body = {"instances": [mesh.samples[0]["instance"]]}
    assert rest.predict(body, headers={"x-model-version": NEW})["model_version"] == NEW
    assert rest.predict({**body, "version": OLD}, headers={"x-model-version": NEW})["model_version"] == OLD


def test_without_a_version_the_traffic_rules_decide(mesh: Mesh, rest: Rest) -> None:
    body = {"instances": [mesh.samples[0]["instance"]]}
    assert Counter(rest.predict(body)["model_version"] for _ in range(30)) == {OLD: 30}


def test_a_request_id_is_kept_and_one_is_made_otherwise(mesh: Mesh, rest: Rest) -> None:
    body = {"instances": [mesh.samples[0]["instance"]]}
    answer = rest.call("POST", PATH, json=body, headers={"x-request-id": "caller-chose-this"})
    assert answer.json()["request_id"] == "caller-chose-this"
    made = {rest.predict(body)["request_id"] for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{8,}", item) for item in made)


@pytest.mark.parametrize(
    ("spoil", "feature", "expected_words"),
    [
        (lambda good: {"X": good["X"][:3]}, "X", ["64"]),
        (lambda good: {"X": [*good["X"][:-1], "black"]}, "X", ["black"]),
        (lambda good: {**good, "colour": 1.0}, "colour", []),
        (lambda _good: {}, "X", []),
        (lambda _good: {"X": None}, "X", []),
        (lambda _good: {"X": {"a": 1}}, "X", []),
    ],
    ids=["too short", "ill-typed", "unknown", "missing", "null", "an object"],
)
def test_bad_features_are_named_with_their_instance(
    mesh: Mesh, rest: Rest, spoil: Any, feature: str, expected_words: list[str]
) -> None:
    good = mesh.samples[0]["instance"]
    error = rest.refused(400, "POST", PATH, json={"instances": [good, spoil(good)]})
    assert error["code"] == 3
    assert reason(error) == "SCHEMA_VIOLATION"
    found = violations(error)
    assert any(field.startswith("instances[1]") and feature in field for field in found), found
    assert all(word in f"{error['message']} {found}" for word in expected_words)
    # Whoever reads only the message is told as well.
    assert feature in error["message"]


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '"text"', "{}", '{"instances": []}', '{"instances": {}}', '{"instances": [1]}'],
)
def test_bodies_that_are_no_request_are_refused(rest: Rest, body: str) -> None:
    error = rest.refused(400, "POST", PATH, content=body, headers={"content-type": "application/json"})
    assert error["code"] == 3


@pytest.mark.parametrize("timeout_ms", [-5, "soon"])
def test_wrong_options_are_named(mesh: Mesh, rest: Rest, timeout_ms: object) -> None:
    body = {"instances": [mesh.samples[0]["instance"]], "timeout_ms": timeout_ms}
    error = rest.refused(400, "POST", PATH, json=body)
    assert "timeout_ms" in f"{error['message']} {violations(error)}"


def test_an_unknown_model_is_not_found(mesh: Mesh, rest: Rest) -> None:
    body = {"instances": [mesh.samples[0]["instance"]]}
    error = rest.refused(404, "POST", "/v1/models/no-such-model/predict", json=body)
    assert error["code"] == 5
    assert "no-such-model" in error["message"]


def test_an_unknown_version_is_not_found(mesh: Mesh, rest: Rest) -> None:
    body = {"version": "v9.9.9", "instances": [mesh.samples[0]["instance"]]}
    error = rest.refused(404, "POST", PATH, json=body)
    assert "v9.9.9" in error["message"]
    assert (
        "v9.9.9"
        in rest.refused(404, "POST", PATH, json={**body, "version": ""}, headers={"x-model-version": "v9.9.9"})[
            "message"
        ]
    )


def test_a_path_that_does_not_exist_is_a_json_error(rest: Rest) -> None:
    assert rest.call("GET", "/v1/nothing/here").status_code == 404


def big_body(mesh: Mesh, size: int) -> bytes:
    """A thousand correct instances whose numbers are written long enough to make `size` bytes."""
    pixels = mesh.samples[0]["instance"]["X"]
    digits = size // (1_000 * len(pixels)) - 4
    row = ",".join(f"{int(pixel):d}.{'0' * digits}" for pixel in pixels)
    instances = ",".join([f'{{"X":[{row}]}}'] * 1_000)
    body = f'{{"instances":[{instances}]}}'
    return body.ljust(size).encode()


def test_ten_megabytes_are_answered(mesh: Mesh, rest: Rest) -> None:
    body = big_body(mesh, BODY_MAX_BYTES)
    assert len(body) == BODY_MAX_BYTES
    answer = rest.ok("POST", PATH, content=body, headers={"content-type": "application/json"})
    assert [item["output"] for item in answer["predictions"]] == [mesh.samples[0]["label"]] * 1_000


def test_more_than_the_limit_is_too_large(mesh: Mesh, rest: Rest) -> None:
    body = big_body(mesh, 16_000_000)
    answer = rest.call("POST", PATH, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.text.strip()
    # The connection's other users are not disturbed.
    rest.predict({"instances": [mesh.samples[0]["instance"]]})


def test_the_gateway_says_that_it_lives(rest: Rest) -> None:
    assert rest.call("GET", "/health").status_code == 200
    assert rest.call("GET", "/ready").status_code == 200


def test_a_digit_is_explained_pixel_by_pixel(mesh: Mesh, rest: Rest) -> None:
    body = {"instances": [sample["instance"] for sample in mesh.samples[:2]], "explain": True}
    answer = until(lambda: rest.predict(body), within_s=30, what="the batcher has the reference sample")
    for prediction in answer["predictions"]:
        values = prediction["explanation"]
        assert list(values) == [f"X[{pixel}]" for pixel in range(64)]
        total = sum(values.values()) + prediction["explanation_baseline"]
        assert total == pytest.approx(prediction["confidence"], abs=1e-4)
    sample = rest.ok("GET", f"/v1/models/{MODEL}/versions/{OLD}/reference-sample")
    assert len(sample["instances"]) == 100
