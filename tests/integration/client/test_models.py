"""Registering and looking at what is registered, through the client and the command."""

import json
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from infermesh.client import Client, InfermeshError

from tests.integration.client.scripted import Scripted


def test_a_path_travels_as_a_uri_and_metadata_as_they_are(client: Client, scripted: Scripted, artifact: Path) -> None:
    made = client.models.register(
        "iris", "v1.0.0", artifact, metadata={"accuracy": 0.97, "class_names": ["a", "b"]}, description="flowers"
    )
    (sent,) = scripted.registry.requests
    assert (made.model_name, made.version) == ("iris", "v1.0.0")
    assert sent.artifact_uri == artifact.as_uri()
    assert MessageToDict(sent.metadata) == {"accuracy": 0.97, "class_names": ["a", "b"]}
    assert sent.description == "flowers"
    assert sent.request_id


def test_another_content_is_refused_with_the_reason(client: Client, artifact: Path) -> None:
    client.models.register("iris", "v1.0.0", artifact)
    with pytest.raises(InfermeshError) as caught:
        client.models.register("iris", "v1.0.0", "s3://bucket/other.onnx")
    assert caught.value.reason == "VERSION_EXISTS"
    assert "higher version" in caught.value.advice


def test_lists_go_over_all_pages_and_stop_at_the_limit(client: Client, artifact: Path) -> None:
    for name in "abcde":
        client.models.register(name, "v1.0.0", artifact)
    assert [model.name for model in client.models.list()] == list("abcde")
    assert [model.name for model in client.models.list(limit=3)] == list("abc")
    assert [model.name for model in client.models.list(prefix="d")] == ["d"]


def test_the_command_takes_metadata_from_what_training_wrote(
    scripted: Scripted, artifact: Path, tmp_path: Path
) -> None:
    document = tmp_path / "trained.json"
    document.write_text(
        json.dumps(
            {"framework": "onnx", "framework_version": "1.23.2", "metadata": {"accuracy": 0.9, "tags": ["vision"]}}
        )
    )
    result = scripted.run(
        *("register", "iris", "v1.0.0", str(artifact), "--metadata", f"@{document}", "--tag", "mine", "--json"),
        *("--class", "setosa", "--class", "virginica"),
    )
    assert json.loads(result.stdout)["version"] == "v1.0.0"
    (sent,) = scripted.registry.requests
    assert (sent.framework, sent.framework_version) == ("onnx", "1.23.2")
    assert MessageToDict(sent.metadata) == {
        "accuracy": 0.9,
        "tags": ["mine", "vision"],
        "class_names": ["setosa", "virginica"],
    }


def test_what_the_registry_cannot_read_is_sent_to_it(scripted: Scripted, artifact: Path) -> None:
    artifact.write_bytes(bytes(range(256)) * 10_000)
    scripted.registry.reads_no_files = True
    result = scripted.run("register", "iris", "v1.0.0", str(artifact))
    assert "sending it" in result.stderr
    assert scripted.artifacts.kept[artifact.name] == artifact.read_bytes()
    assert scripted.artifacts.pieces > 2
    first, second = scripted.registry.requests
    assert first.artifact_uri == artifact.as_uri()
    assert second.artifact_uri == f"artifact://sha256/{first.artifact_digest}"


def test_what_nobody_can_read_is_not_sent(scripted: Scripted) -> None:
    scripted.registry.reads_no_files = True
    assert "/nowhere.onnx cannot be read" in scripted.run("register", "iris", "v1.0.0", "/nowhere.onnx", code=3).stderr
    assert scripted.artifacts.kept == {}


def test_an_upload_that_cannot_be_read_raises_what_reading_raised(client: Client, scripted: Scripted) -> None:
    with pytest.raises(FileNotFoundError):
        client.models.upload("/nowhere.onnx")
    assert scripted.artifacts.kept == {}


def test_people_see_tensors_and_what_to_do_next(scripted: Scripted, artifact: Path) -> None:
    shown = scripted.run("register", "iris", "v1.0.0", str(artifact)).stdout
    assert "X" in shown
    assert "FP32" in shown
    assert "0 to 16" in shown
    assert "infermesh deploy iris v1.0.0" in shown
    assert "iris" in scripted.run("models", "list").stdout
    assert "draft" in scripted.run("models", "show", "iris").stdout
    assert "label" in scripted.run("models", "show", "iris", "v1.0.0").stdout
    assert json.loads(scripted.run("models", "versions", "iris", "--json").stdout)["versions"][0]["version"] == "v1.0.0"


def test_what_is_not_there_is_named(scripted: Scripted) -> None:
    result = scripted.run("models", "show", "nothing", code=3)
    assert result.stdout == ""
    assert "nothing" in result.stderr
    assert "infermesh models list" in result.stderr


@pytest.mark.parametrize(
    ("metadata", "words"),
    [("{", "no JSON"), ("[1]", "must be a JSON object"), ("@/nowhere/at-all.json", "no such file")],
)
def test_metadata_that_are_none_never_reach_the_registry(
    scripted: Scripted, artifact: Path, metadata: str, words: str
) -> None:
    result = scripted.run("register", "iris", "v1.0.0", str(artifact), "--metadata", metadata, code=2)
    assert words in " ".join(result.stderr.split())
    assert scripted.registry.requests == []


def test_versions_are_found_moved_and_pointed_at(scripted: Scripted, artifact: Path) -> None:
    scripted.run("register", "iris", "v1.0.0", str(artifact))
    found = scripted.run("models", "search", "flowers", "red", "--metric", "accuracy > 0.9", "--latest").stdout
    assert "iris" in found
    asked = scripted.registry.searches[0]
    assert (asked.query, list(asked.metrics), asked.latest_only) == ("flowers red", ["accuracy > 0.9"], True)
    assert json.loads(scripted.run("models", "stage", "iris", "v1.0.0", "active", "--json").stdout)["stage"] == "active"
    assert "champion of iris is v1.0.0" in scripted.run("models", "alias", "iris", "champion", "v1.0.0").stdout


def test_a_shell_is_offered_what_the_mesh_knows(scripted: Scripted, artifact: Path) -> None:
    scripted.run("register", "iris", "v1.0.0", str(artifact))
    assert "iris" in scripted.completed("infermesh models show ir")
    assert "v1.0.0" in scripted.completed("infermesh models show iris v1")
    assert "v1.0.0" not in scripted.completed("infermesh models show iris v2")
    # Nobody waits for a mesh that is not there, and nothing is printed into the shell.
    scripted.address = "127.0.0.1:1"
    assert scripted.completed("infermesh models show ir").strip() == ""


def test_a_reference_sample_travels_from_a_file_and_back(
    client: Client, scripted: Scripted, artifact: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text('name,x,y\nfirst,"[1, 2]",a\nsecond,"[3, 4]",b\n')
    scripted.run(
        *("register", "iris", "v1.0.0", str(artifact), "--reference", str(rows)),
        *("--reference-column", "x", "--reference-column", "y"),
    )
    (sent,) = scripted.registry.requests
    instances = [{"x": [1.0, 2.0], "y": "a"}, {"x": [3.0, 4.0], "y": "b"}]
    assert MessageToDict(sent.reference_sample) == {"instances": instances}
    assert client.models.reference("iris", "v1.0.0") == instances
    assert "2 reference rows" in scripted.run("models", "show", "iris", "v1.0.0").stdout
    client.models.register("rose", "v1.0.0", artifact)
    assert not scripted.registry.requests[-1].HasField("reference_sample")


def test_columns_that_are_no_features_are_refused_with_a_way_out(
    scripted: Scripted, artifact: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("x,species\n1,a\n")
    result = scripted.run("register", "iris", "v1.0.0", str(artifact), "--reference", str(rows), code=2)
    assert "--reference-column NAME takes only those columns that are features" in result.stderr
    assert "species is no feature" in result.stderr


def test_why_is_drawn_with_what_was_given(client: Client, scripted: Scripted) -> None:
    scripted.batcher.explains = {"X[0]": 3.0, "X[1]": -1.5, "X[2]": 0.0}
    answer = client.predict("iris", [{"X": [5.1, 3.5, 1.4]}], explain=True)
    assert answer.predictions[0].to_dict() == {
        "output": 7,
        "explanation": {"X[0]": 3.0, "X[1]": -1.5, "X[2]": 0.0},
        "explanation_baseline": 0.5,
    }
    drawn = scripted.run("predict", "iris", '{"X": [5.1, 3.5, 1.4]}', "--explain").stdout
    assert "#0: the output is 2; on average over the reference sample 0.5" in drawn
    lines = {line.split()[0]: line for line in drawn.splitlines() if line.startswith("X[")}
    assert list(lines) == ["X[0]", "X[1]", "X[2]"]
    assert [line.split()[1] for line in lines.values()] == ["5.1", "3.5", "1.4"]
    assert "│████████" in lines["X[0]"]
    assert "████│" in lines["X[1]"]
    assert ["+3" in lines["X[0]"], "-1.5" in lines["X[1]"]] == [True, True]
    assert "explanation" not in client.predict("iris", [{"X": [1.0]}]).predictions[0].to_dict()
