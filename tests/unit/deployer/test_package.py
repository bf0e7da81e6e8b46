"""What the model repository gets, to the letter."""

import dataclasses
import json

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Resources, Wish
from services.deployer.domain.deployment import ServingOptions as Options
from services.deployer.domain.native import QUANTISED
from services.deployer.domain.package import Package, Precision, check_precision, package_of
from tests.support.clock import NOON
from tests.support.deployer_fakes import recipe

DIGITS_CONFIG = """\
name: "digits--v1.0.0"
backend: "python"
max_batch_size: 0
input [
  { name: "X" data_type: TYPE_FP32 dims: [ -1, 64 ] }
]
output [
  { name: "label" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "probabilities" data_type: TYPE_FP32 dims: [ -1, 10 ] }
]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
MIXED_CONFIG = """\
name: "digits--v1.0.0"
backend: "python"
max_batch_size: 0
input [
  { name: "town \\"old\\"" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "words" data_type: TYPE_INT32 dims: [ -1, -1 ] optional: true }
]
output [
  { name: "score" data_type: TYPE_FP64 dims: [ -1, 3, 3 ] }
]
instance_group [ { kind: KIND_CPU count: 6 } ]
"""


def package(wish: Wish = Wish(), of: Recipe | None = None, runner: str = "r") -> Package:  # noqa: B008 - a value
    new = NewDeployment("digits", "v1.0.0", "main", wish)
    deployment = Deployment("id", new, of or recipe(), wish, Progress(), 1, NOON, NOON)
    return package_of(deployment, runner_digest=runner, threads_default=1)


def test_digits_gets_this_configuration() -> None:
    made = package()
    assert made.config == DIGITS_CONFIG
    assert json.loads(made.serving) == {
        "framework": "onnx",
        "artifact": "model.onnx",
        "threads": 1,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [64]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": []},
            {"name": "probabilities", "datatype": "FP32", "shape": [10]},
        ],
    }


def test_strings_optional_inputs_odd_names_and_copies_are_written_as_triton_reads_them() -> None:
    schema = ModelSchema(
        inputs=(TensorSpec('town "old"', DataType.BYTES), TensorSpec("words", DataType.INT32, (-1,), optional=True)),
        outputs=(TensorSpec("score", DataType.FP64, (3, 3)),),
    )
    wish = Wish(resources=Resources(replicas=3), serving=Options(instances=2, threads=4))
    made = package(wish, dataclasses.replace(recipe(), schema=schema))
    assert made.config == MIXED_CONFIG
    assert json.loads(made.serving)["threads"] == 4


def test_a_fingerprint_changes_with_all_that_a_server_would_load_and_with_nothing_else() -> None:
    usual = package().fingerprint
    assert package(Wish(resources=Resources(cpu="4", memory="1Gi"))).fingerprint == usual
    assert package(of=recipe(path="/elsewhere/model.onnx")).fingerprint == usual
    assert package(Wish(resources=Resources(replicas=2))).fingerprint != usual
    assert package(Wish(serving=Options(threads=2))).fingerprint != usual
    assert package(of=recipe(digest="1" * 64)).fingerprint != usual
    assert package(runner="another").fingerprint != usual


def test_a_framework_without_an_adapter_is_refused_with_those_that_have_one() -> None:
    known = "lightgbm, onnx, python, pytorch, sklearn, tensorflow, xgboost"
    with pytest.raises(MeshError, match=rf"'caffe'.*one of: {known}") as refused:
        package(of=recipe(framework="caffe"))
    assert refused.value.reason is Reason.FRAMEWORK_UNSUPPORTED


def test_a_quantised_version_runs_from_another_file_and_is_proven_by_its_answers() -> None:
    wish = Wish(serving=Options(precision="int8", accuracy_drop_max=0.02))
    made = package(wish)
    assert made.precision == Precision("label", 0.02)
    assert json.loads(made.serving)["artifact"] == QUANTISED
    assert made.artifact_name == "model.onnx"
    fingerprints = {made.fingerprint, package().fingerprint}
    fingerprints |= {package(Wish(serving=Options(precision="int8", accuracy_drop_max=0.03))).fingerprint}
    assert len(fingerprints) == 3
    assert package(Wish(serving=Options(precision="fp32"))).precision is None


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (recipe(), "no reference sample"),
        (dataclasses.replace(recipe(framework="sklearn"), reference_digest="d"), "single ONNX files"),
        (dataclasses.replace(recipe(artifact_kind="directory"), reference_digest="d"), "single ONNX files"),
    ],
)
def test_what_cannot_be_quantised_is_refused_when_it_is_asked_for(of: Recipe, why: str) -> None:
    with pytest.raises(MeshError, match=why) as refused:
        check_precision(Wish(serving=Options(precision="int8")), of)
    assert refused.value.reason is Reason.INVALID_FIELD
    check_precision(Wish(), of)
    check_precision(Wish(serving=Options(precision="int8")), dataclasses.replace(recipe(), reference_digest="d"))


@pytest.mark.parametrize("framework", ["sklearn", "xgboost", "lightgbm", "pytorch", "tensorflow", "python"])
@pytest.mark.parametrize("kind", ["file", "directory", "tar.gz"])
def test_other_frameworks_get_a_link_to_an_environment_of_their_own(framework: str, kind: str) -> None:
    made = package(of=recipe(framework=framework, artifact_kind=kind))
    link = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/environment" } }\n'
    assert made.config == DIGITS_CONFIG + link
    assert (made.in_environment, made.artifact_name, made.artifact_kind) == (True, "artifact", kind)
    assert json.loads(made.serving)["framework"] == framework
    assert not package().in_environment


def test_bfloat16_is_refused_because_the_runner_has_no_such_type() -> None:
    schema = ModelSchema(inputs=(TensorSpec("X", DataType.BF16),), outputs=())
    with pytest.raises(MeshError, match="'X' is BF16"):
        package(of=dataclasses.replace(recipe(), schema=schema))
