"""What people type becomes what the contract wants: places of artifacts, names of deployments, shares, documents."""

from pathlib import Path

import pytest
import typer
from infermesh.client.cli.commands.models import completed
from infermesh.client.cli.documents import read_document
from infermesh.client.cli.output import quantity
from infermesh.client.cli.splits import parse_split
from infermesh.client.deployments import default_name, is_settled
from infermesh.client.errors import InfermeshError
from infermesh.client.models import artifact_uri, struct
from infermesh.deployer.v1 import deployment_pb2


def test_paths_become_uris_and_uris_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert artifact_uri("a b.onnx") == (tmp_path / "a b.onnx").as_uri()
    assert artifact_uri(tmp_path / "m.onnx") == (tmp_path / "m.onnx").as_uri()
    assert artifact_uri("s3://bucket/m.onnx") == "s3://bucket/m.onnx"
    # The registry says best what is wrong with no place at all.
    assert artifact_uri("") == ""


def test_what_json_cannot_hold_is_refused_by_its_field() -> None:
    assert struct(None, "metadata") is None
    made = struct({"a": [1, {"b": None}], "c": True}, "metadata")
    assert made is not None
    assert made["c"] is True
    with pytest.raises(InfermeshError, match="metadata holds what JSON cannot"):
        struct({"a": object()}, "metadata")


@pytest.mark.parametrize(
    ("version", "name"),
    [("v1.0.0", "v1-0-0"), ("1.2.3", "v1-2-3"), ("v1.0.0-rc.1", "v1-0-0-rc-1"), (" v2.0.0 ", "v2-0-0")],
)
def test_deployments_are_called_after_versions(version: str, name: str) -> None:
    assert default_name(version) == name


@pytest.mark.parametrize(
    ("status", "observed", "settled"),
    [("active", 2, True), ("failed", 2, True), ("active", 1, False), ("deploying", 2, False), ("pending", 0, False)],
)
def test_a_deployment_is_settled_by_its_own_generation(status: str, observed: int, settled: bool) -> None:
    item = deployment_pb2.Deployment(status=status, generation=2, observed_generation=observed)
    assert is_settled(item) is settled


def test_shares() -> None:
    assert parse_split(["v1.0.0=90", "1.1.0=10%"], "x") == {"v1.0.0": 90, "v1.1.0": 10}
    assert parse_split(["v1.0.0=100", "v1.1.0=0"], "x") == {"v1.0.0": 100, "v1.1.0": 0}


@pytest.mark.parametrize("shares", [["v1.0.0=-1"], ["=100"], ["v1.0.0=1e2"], ["v1.0.0=100.0"], ["v1.0.0 = 100"], [""]])
def test_what_is_no_share(shares: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match="no share of traffic"):
        parse_split(shares, "x")


def test_metadata_alone_or_in_a_whole_registration() -> None:
    assert completed({"accuracy": 1}, tags=(), classes=()) == {"accuracy": 1}
    assert completed({"name": "m", "metadata": {"tags": ["b"]}}, tags=["a", "b"], classes=["x"]) == {
        "tags": ["a", "b"],
        "class_names": ["x"],
    }
    # A model may have a text called metadata.
    assert completed({"metadata": "none"}, tags=(), classes=()) == {"metadata": "none"}


def test_documents_are_objects(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text('{"a": 1}')
    assert read_document(f"@{file}", "--metadata") == read_document('{"a": 1}', "--metadata") == {"a": 1}
    file.write_bytes(b"\xff")
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        read_document(f"@{file}", "--metadata")
    file.write_text(" " * (1024 * 1024 + 1))
    with pytest.raises(typer.BadParameter, match="longer than 1 MiB"):
        read_document(f"@{file}", "--metadata")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (4408, "4.4 KB"), (1.5e9, "1.5 GB"), (2e15, "2000.0 TB")]
)
def test_sizes(size: float, text: str) -> None:
    assert quantity(size) == text
