"""The bootstrap of digits: what is there is left alone, what is late is waited for, what is wrong is one sentence."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from infermesh.client import Client, InfermeshError

from examples.digits.bootstrap import Bootstrap, BootstrapError, Sample, Version, read_samples, read_versions
from services.supervisor.settings import ROOT
from tests.integration.client.scripted import Scripted, deployment

HOLDOUT = ROOT / ".build" / "digits" / "holdout.jsonl"
SAMPLES = (
    Sample({"X": [0.0]}, {"v1.0.0": 7, "v1.1.0": 7}),
    Sample({"X": [1.0]}, {"v1.0.0": 7, "v1.1.0": 3}),
)


@pytest.fixture
def versions(artifact: Path) -> Sequence[Version]:
    """Two versions, as training leaves them."""
    return [Version(version, artifact, "onnx", "1.23.2", {"accuracy": 0.9}) for version in ("v1.0.0", "v1.1.0")]


@pytest.fixture
def said() -> list[str]:
    """The lines that people see."""
    return []


def run(client: Client, versions: Sequence[Version], said: list[str]) -> None:
    Bootstrap(client, say=said.append).run(versions, SAMPLES)


def test_both_versions_are_registered_deployed_and_asked(
    client: Client, scripted: Scripted, versions: Sequence[Version], said: list[str]
) -> None:
    run(client, versions, said)
    assert [item.version for item in scripted.registry.requests] == ["v1.0.0", "v1.1.0"]
    assert [(item.version, dict(item.traffic_split)) for item in scripted.deployer.created] == [
        ("v1.0.0", {"v1.0.0": 100}),
        ("v1.1.0", {}),
    ]
    assert len(said) == 2
    assert all("answers" in line for line in said)


def test_a_second_run_changes_nothing(
    client: Client, scripted: Scripted, versions: Sequence[Version], said: list[str]
) -> None:
    run(client, versions, said)
    run(client, versions, said)
    assert len(scripted.deployer.created) == 2
    assert scripted.router.updates == []


def test_a_version_taken_away_comes_back_without_its_traffic(
    client: Client, scripted: Scripted, versions: Sequence[Version], said: list[str]
) -> None:
    scripted.deployer.deployments["mine"] = deployment("v1.1.0", "active", name="mine")
    run(client, versions, said)
    assert [(item.version, dict(item.traffic_split)) for item in scripted.deployer.created] == [("v1.0.0", {})]


def test_what_failed_before_is_tried_again(
    client: Client, scripted: Scripted, versions: Sequence[Version], said: list[str]
) -> None:
    scripted.deployer.deployments["v1-0-0"] = deployment("v1.0.0", "failed")
    run(client, versions, said)
    assert scripted.deployer.restarted == ["v1-0-0"]


def test_another_training_of_a_registered_version_is_left_out(
    client: Client, versions: Sequence[Version], said: list[str]
) -> None:
    client.models.register("digits", "v1.0.0", "s3://bucket/earlier.onnx")
    run(client, versions, said)
    assert "with other content" in said[0]


def test_the_gateway_may_learn_late(
    client: Client, scripted: Scripted, versions: Sequence[Version], said: list[str]
) -> None:
    scripted.batcher.not_served_times = 3
    run(client, versions, said)
    assert scripted.batcher.not_served_times == 0


def test_wrong_answers_are_counted(
    client: Client, scripted: Scripted, versions: Sequence[Version], said: list[str]
) -> None:
    scripted.batcher.says = lambda version: 4
    with pytest.raises(BootstrapError, match="gets 1 of 2 digits wrong"):
        run(client, versions, said)


def test_a_failed_deployment_ends_it_with_its_reason(
    client: Client, scripted: Scripted, versions: Sequence[Version], said: list[str]
) -> None:
    scripted.deployer.becomes = "failed"
    with pytest.raises(InfermeshError, match=r"digits v1\.0\.0 cannot be deployed"):
        run(client, versions, said)


def test_files_that_training_did_not_write_are_named(tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match="make setup"):
        read_versions(tmp_path)
    (tmp_path / "digits-v1.0.0.json").write_text('{"version": "v1.0.0"}')
    with pytest.raises(BootstrapError, match=r"digits-v1\.0\.0\.json is not what training writes"):
        read_versions(tmp_path)
    (tmp_path / "samples.json").write_text("[]]")
    with pytest.raises(BootstrapError, match=r"samples\.json"):
        read_samples(tmp_path)


def test_digits_are_explained_by_digits_of_all_kinds() -> None:
    first, second = read_versions(ROOT / ".build" / "digits")
    assert len(first.reference) == 100
    assert first.reference == second.reference
    assert {len(row["X"]) for row in first.reference} == {64}  # type: ignore[arg-type]
    kept = {json.dumps(json.loads(line)["X"]): json.loads(line)["digit"] for line in HOLDOUT.read_text().splitlines()}
    assert {kept[json.dumps(row["X"])] for row in first.reference} == set(range(10))
