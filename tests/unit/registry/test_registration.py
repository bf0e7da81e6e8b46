"""What is wrong with a registration before any artifact is read."""

import math
from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.domain.artifact_uri import ArtifactPlace, filename_of, parse_artifact_uri
from services.registry.domain.metadata import class_names_of, lineage_of, metrics_of, tags_of
from services.registry.domain.registration import Registration, check_registration, description_for
from services.registry.domain.version import Lineage

GOOD = Registration("iris", "v1.0.0", "/models/iris.onnx")


def wrong(**change: object) -> MeshError:
    with pytest.raises(MeshError) as caught:
        check_registration(replace(GOOD, **change))  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "No Spaces"}, "name"),
        ({"name": "a--b"}, "name"),
        ({"version": "one"}, "version"),
        ({"version": "v1.0.0+build"}, "version"),
        ({"artifact_uri": ""}, "artifact_uri"),
        ({"artifact_uri": "models/iris.onnx"}, "artifact_uri"),
        ({"artifact_uri": "https://example.org/iris.onnx"}, "artifact_uri"),
        ({"artifact_uri": "file://elsewhere/iris.onnx"}, "artifact_uri"),
        ({"artifact_uri": "file:///iris%00.onnx"}, "artifact_uri"),
        ({"artifact_uri": "file://[/iris.onnx"}, "artifact_uri"),
        ({"artifact_uri": "artifact://sha256/123"}, "artifact_uri"),
        ({"artifact_digest": "A" * 64}, "artifact_digest"),
        ({"framework": "caffe"}, "framework"),
        ({"framework_version": "9" * 65}, "framework_version"),
        ({"stage": "archived"}, "stage"),
        ({"request_id": "r" * 129}, "request_id"),
        ({"description": "d" * 4097}, "description"),
        ({"model_card": "ä" * 131_073}, "model_card"),
        ({"model_card": "a\0"}, "model_card"),
        ({"input_schema": {"x": "real"}}, "input_schema.x"),
        ({"schema": ModelSchema((TensorSpec("", DataType.FP32),))}, "schema.inputs[0].name"),
        ({"metadata": {"loss": math.nan}}, "metadata"),
        ({"reference": []}, "reference_sample.instances"),
        ({"reference": [{"x": math.nan}]}, "reference_sample"),
        ({"metadata": {"note": "a\0"}}, "metadata"),
        ({"metadata": {"note": ["\\\0"]}}, "metadata"),
        ({"metadata": {"note": "n" * 1_100_000}}, "metadata"),
        ({"metadata": {"tags": "vision"}}, "metadata.tags"),
        ({"metadata": {"tags": [1.0]}}, "metadata.tags"),
        ({"metadata": {"tags": [str(number) for number in range(65)]}}, "metadata.tags"),
        ({"metadata": {"class_names": ["a", "a"]}}, "metadata.class_names"),
        ({"metadata": {"class_names": [0.5]}}, "metadata.class_names"),
        ({"metadata": {"parent_version": "yesterday"}}, "lineage.parent_version"),
        ({"lineage": Lineage(parent_version="No@v1.0.0")}, "lineage.parent_version"),
        ({"lineage": Lineage(dataset="d" * 2049)}, "lineage.dataset"),
        ({"lineage": Lineage(hyperparameters={"rate": math.inf})}, "lineage.hyperparameters"),
    ],
)
def test_each_wrong_field_is_named(change: dict[str, object], field: str) -> None:
    error = wrong(**change)
    assert (error.reason, [violation.field for violation in error.violations]) == (Reason.INVALID_FIELD, [field])


def test_all_wrong_fields_are_named_at_once() -> None:
    error = wrong(name="", version="", artifact_uri="", framework="caffe", metadata={"tags": 1.0})
    fields = [violation.field for violation in error.violations]
    assert fields == ["name", "version", "artifact_uri", "framework", "metadata.tags"]
    assert all(field in error.message for field in fields)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"artifact_uri": "s3://bucket"}, "s3://bucket"),
        ({"artifact_uri": "s3://bucket/a//b"}, "empty parts"),
        ({"artifact_uri": "gs://bucket/../b"}, "empty parts"),
        ({"artifact_uri": "gs://Bucket_/iris.onnx"}, "lower-case"),
    ],
)
def test_what_is_no_place_is_refused_with_the_rule(change: dict[str, object], word: str) -> None:
    error = wrong(**change)
    assert error.reason is Reason.INVALID_FIELD
    assert word in error.message
    # A field that is wrong is told first: mending it is not in vain.
    assert wrong(**change, name="").reason is Reason.INVALID_FIELD


def test_good_ones_pass() -> None:
    check_registration(GOOD)
    check_registration(replace(GOOD, metadata={"regex": "\\u0000", "path": "C:\\"}))
    check_registration(replace(GOOD, version="1.0.0", framework="onnx", stage="active", artifact_digest="0" * 64))


@pytest.mark.parametrize(
    ("uri", "place", "name"),
    [
        ("/models/iris.onnx", ArtifactPlace(path="/models/iris.onnx"), "iris.onnx"),
        ("file:///models/my%20iris.onnx", ArtifactPlace(path="/models/my iris.onnx"), "my iris.onnx"),
        ("file://localhost/iris.onnx", ArtifactPlace(path="/iris.onnx"), "iris.onnx"),
        ("FILE:///iris.onnx", ArtifactPlace(path="/iris.onnx"), "iris.onnx"),
        ("/models/50%25.onnx", ArtifactPlace(path="/models/50%25.onnx"), "50%25.onnx"),
        (f"artifact://sha256/{'a' * 64}", ArtifactPlace(digest="a" * 64), ""),
    ],
)
def test_where_an_artifact_is(uri: str, place: ArtifactPlace, name: str) -> None:
    assert parse_artifact_uri(uri) == place
    assert filename_of(place) == name


def test_what_is_understood_of_metadata() -> None:
    metadata = {
        "accuracy": 0.9,
        "good": True,
        "metrics": {"accuracy": 0.95, "f1": 1.0, "note": "x"},
        "tags": ["b", "a", "b"],
        "class_names": [0.0, 1.0, "two"],
        "dataset": "iris",
        "training_run": 7.0,
        "parent_version": "letters@1.0.0",
        "hyperparameters": {"C": 0.1},
    }
    assert metrics_of(metadata) == {"accuracy": 0.95, "f1": 1.0, "training_run": 7.0}
    assert tags_of(metadata) == ("a", "b")
    assert class_names_of(metadata) == ("0", "1", "two")
    lineage = lineage_of(Lineage(dataset="stated"), metadata)
    assert lineage == Lineage(dataset="stated", parent_version="letters@v1.0.0", hyperparameters={"C": 0.1})


def test_a_new_model_is_described_by_its_caller_or_its_metadata() -> None:
    metadata = {"description": "d" * 5000}
    assert description_for(replace(GOOD, metadata=metadata)) == "d" * 4096
    assert description_for(replace(GOOD, metadata=metadata, description="mine")) == "mine"
