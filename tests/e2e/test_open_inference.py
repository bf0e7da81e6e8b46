"""The Open Inference Protocol: an unchanged `tritonclient` works against the gateway, over gRPC and over HTTP."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.driving import NEW, OLD, ROOT
from tests.support.mesh import Mesh


@pytest.fixture(scope="module", params=["grpc", "http"])
def seen(request: pytest.FixtureRequest, mesh: Mesh) -> dict[str, Any]:
    """What `tritonclient` got, by protocol."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.e2e.triton_clients", request.param, mesh.gateway],
        cwd=ROOT,
        env={**os.environ, "INFERMESH_API_KEY": mesh.key},
        input=json.dumps([sample["instance"]["X"] for sample in mesh.samples]),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    answers = json.loads(finished.stdout)
    assert isinstance(answers, dict)
    return answers


def test_the_server_and_the_model_are_ready_and_others_are_not(seen: dict[str, Any]) -> None:
    assert (seen["live"], seen["ready"], seen["model_ready"], seen["other_ready"]) == (True, True, True, False)


def test_the_metadata_is_the_models_schema(seen: dict[str, Any]) -> None:
    assert seen["inputs"] == {"X": ["FP32", [-1, 64]]}
    assert seen["outputs"] == {"label": ["INT64", [-1]], "probabilities": ["FP32", [-1, 10]]}
    assert seen["versions"] == [OLD, NEW]


@pytest.mark.parametrize(("call", "version"), [("default", OLD), ("named", NEW)])
def test_predictions_are_right_and_name_their_version(
    mesh: Mesh, seen: dict[str, Any], call: str, version: str
) -> None:
    answer = seen[call]
    assert answer["version"] == version
    assert answer["label"] == [sample["expected"][version] for sample in mesh.samples]
    assert (answer["label_type"], answer["probabilities_type"]) == ("int64", "float32")
    assert answer["shape"] == [len(mesh.samples), 10]
    assert answer["sums"] == pytest.approx([1.0] * len(mesh.samples), abs=1e-4)


def test_bytes_in_and_json_out_may_be_mixed(mesh: Mesh, seen: dict[str, Any]) -> None:
    answer = seen.get("mixed", seen["default"])
    assert answer["label"] == [sample["expected"][OLD] for sample in mesh.samples]


def test_the_request_id_comes_back(seen: dict[str, Any]) -> None:
    assert seen["request_id"] == "mine"


def test_errors_name_what_is_wrong(seen: dict[str, Any]) -> None:
    assert seen["unknown_model"]["status"] in ("StatusCode.NOT_FOUND", "404")
    assert "no-such-model" in seen["unknown_model"]["message"]
    assert seen["bad_shape"]["status"] in ("StatusCode.INVALID_ARGUMENT", "400")
    assert "X" in seen["bad_shape"]["message"]
    assert "64" in seen["bad_shape"]["message"]
