"""Every framework, as its users do it: train, register, deploy, ask; the answers are those of the framework itself."""

import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.deployer.domain.environment import FRAMEWORKS
from tests.e2e.driving import DIGITS, Rest, reason
from tests.support.dense_models import sample, save_dense
from tests.support.frameworks import Case, trained
from tests.support.mesh import Mesh
from tests.support.waiting import until

TEAM = "makers"
VERSION = "v1.0.0"
NUMPY_AWAY = 1e-4
"""How far an answer may be from the framework's own: single precision, another order of sums."""


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    """A deployer of a team that lets artifacts run code."""
    operator = Rest(mesh.gateway, mesh.key)
    operator.ok("POST", "/v1/teams", json={"name": TEAM, "allow_unsafe_artifacts": True})
    made = operator.ok("POST", f"/v1/teams/{TEAM}/api-keys", json={"name": "tests", "role": "deployer"})
    operator.close()
    rest = Rest(mesh.gateway, made["secret"])
    yield rest
    rest.close()


def register(rest: Rest, name: str, artifact: Path, **more: Any) -> dict[str, Any]:
    return rest.ok(
        "POST", "/v1/models", json={"name": name, "version": VERSION, "artifact_uri": artifact.as_uri(), **more}
    )


def deployment(rest: Rest, name: str) -> dict[str, Any]:
    return rest.ok("GET", f"/v1/models/{name}/deployments/main")


def deploy(rest: Rest, name: str, **more: Any) -> dict[str, Any]:
    """Deploys, and waits for the end, whatever it is."""
    rest.ok("POST", f"/v1/models/{name}/deployments", json={"version": VERSION, "deployment_name": "main", **more})
    until(
        lambda: deployment(rest, name)["status"] in {"active", "failed"}, within_s=120, what=f"{name} is up, or is not"
    )
    return deployment(rest, name)


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (one,) = [one for one in found["conditions"] if one["type"] == kind]
    return dict(one)


def near(told: object, expected: object) -> bool:
    if isinstance(expected, float) and isinstance(told, int | float):
        return math.isclose(told, expected, rel_tol=NUMPY_AWAY, abs_tol=NUMPY_AWAY)
    if isinstance(expected, list) and isinstance(told, list):
        return len(told) == len(expected) and all(map(near, told, expected))
    return told == expected


def check(case: Case, predictions: list[dict[str, Any]]) -> None:
    assert len(predictions) == len(case.expected)
    for row, (told, expected) in enumerate(zip(predictions, case.expected, strict=True)):
        assert near(told["output"], expected["output"]), (case.form, row, told, expected)
        for name, value in (expected["probabilities"] or {}).items():
            assert near(told["probabilities"][name], value), (case.form, row, told, expected)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_trained_model_answers_through_the_gateway_as_its_framework_does(
    rest: Rest, framework: str, tmp_path: Path
) -> None:
    for case in trained(framework, tmp_path):
        name = f"{framework}-{case.form.replace('_', '-')}"
        register(rest, name, case.artifact, framework=case.framework, **case.register)
        found = deploy(rest, name)
        assert found["status"] == "active", (case.form, found["error_message"])
        assert condition(found, "Environment")["status"] == "True"
        for instances in (case.instances, case.instances[:1]):
            answer = rest.ok("POST", f"/v1/models/{name}/predict", json={"instances": list(instances)})
            assert answer["model_version"] == VERSION
            check(Case(**{**case.__dict__, "expected": case.expected[: len(instances)]}), answer["predictions"])
        rest.ok("DELETE", f"/v1/models/{name}/deployments/main")


@pytest.mark.parametrize("packed", [False, True])
def test_an_onnx_model_in_a_folder_is_served_as_the_file_is(
    rest: Rest, mesh: Mesh, tmp_path: Path, packed: bool
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("# Digits")
    shutil.copy(DIGITS / "digits-v1.0.0.onnx", folder / "digits.onnx")
    artifact = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", folder)) if packed else folder
    name = f"onnx-{'packed' if packed else 'folder'}"
    register(rest, name, artifact)
    found = deploy(rest, name)
    assert found["status"] == "active", found["error_message"]
    instances = [one["instance"] for one in mesh.samples]
    answer = rest.ok("POST", f"/v1/models/{name}/predict", json={"instances": instances})
    assert [one["output"] for one in answer["predictions"]] == [one["expected"][VERSION] for one in mesh.samples]


def test_a_dense_model_is_deployed_in_8_bit_integers_and_says_what_that_changes(
    rest: Rest, mesh: Mesh, tmp_path: Path
) -> None:
    save_dense(tmp_path / "dense.onnx")
    register(rest, "dense", tmp_path / "dense.onnx", reference_sample={"instances": sample(200)})
    serving = {"precision": "int8"}
    deploy(rest, "dense", serving=serving)
    found = deployment(rest, "dense")
    assert found["status"] == "active", found["error_message"]
    said = condition(found, "Quantised")
    assert said["status"] == "True"
    assert re.search(r"0\.2 MB are 0\.0, and [0-2] of 200 answers", said["message"]), said
    instances = [one["instance"] for one in mesh.samples]
    answer = rest.ok("POST", "/v1/models/dense/predict", json={"instances": instances})
    right = sum(
        one["output"] == sample["label"] for one, sample in zip(answer["predictions"], mesh.samples, strict=True)
    )
    assert right > 0.8 * len(instances)
    rest.ok("DELETE", "/v1/models/dense/deployments/main")
    save_dense(tmp_path / "worse.onnx", outlier=1000.0)
    register(rest, "worse", tmp_path / "worse.onnx", reference_sample={"instances": sample(200)})
    found = deploy(rest, "worse", serving=serving)
    assert (found["status"], found["error_reason"]) == ("failed", "QUANTISATION_REFUSED")
    assert "answers on the reference sample change" in found["error_message"]
    register(rest, "unproven", tmp_path / "dense.onnx")
    body = {"version": VERSION, "deployment_name": "main", "serving": serving}
    error = rest.refused(400, "POST", "/v1/models/unproven/deployments", json=body)
    assert "no reference sample" in error["message"]


CODE = """
import colorsys

import iniconfig


class Model:
    def predict(self, inputs):
        assert iniconfig.__name__ and colorsys.__name__
        return {"output": inputs["x"] * 2}
"""
SCHEMA = {
    "framework": "python",
    "input_schema": {"x": "float"},
    "output_schema": {"output": "float"},
}


def code(folder: Path, requirements: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(CODE)
    (folder / "requirements.txt").write_text(requirements)
    return folder


def test_the_requirements_of_a_version_are_installed_for_it_alone(rest: Rest, tmp_path: Path) -> None:
    for name, requirements in (("code-with", "iniconfig==2.0.0\n"), ("code-without", "")):
        register(rest, name, code(tmp_path / name, requirements), **SCHEMA)
    found = deploy(rest, "code-with")
    assert found["status"] == "active", found["error_message"]
    answer = rest.ok("POST", "/v1/models/code-with/predict", json={"instances": [{"x": 1.5}]})
    assert answer["predictions"] == [{"output": 3.0}]
    lacking = deploy(rest, "code-without")
    assert (lacking["status"], lacking["error_reason"]) == ("failed", "LOAD_FAILED")
    assert "No module named 'iniconfig'" in lacking["error_message"]


@pytest.mark.parametrize(
    ("requirements", "why", "words"),
    [
        ("iniconfig==0.0.0.1", "ENVIRONMENT_FAILED", "iniconfig==0.0.0.1"),
        ("--index-url http://elsewhere/", "ARTIFACT_INVALID", "no options of pip"),
    ],
)
def test_requirements_that_cannot_be_met_are_a_condition_with_what_to_do(
    rest: Rest, tmp_path: Path, requirements: str, why: str, words: str
) -> None:
    name = f"code-{why.lower().replace('_', '-')}"
    register(rest, name, code(tmp_path / name, requirements), **SCHEMA)
    found = deploy(rest, name)
    assert (found["status"], found["error_reason"]) == ("failed", why)
    said = condition(found, "Environment")
    assert (said["status"], said["reason"]) == ("False", why)
    assert words in said["message"]
    assert "register it anew" in said["message"]
    error = rest.refused(404, "POST", f"/v1/models/{name}/predict", json={"instances": [{"x": 1.0}]})
    assert reason(error) == "MODEL_NOT_SERVED"
