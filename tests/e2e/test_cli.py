"""The `infermesh` command, run as a person and as a script run it."""

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.driving import NEW, OLD, ROOT, holdout
from tests.support.mesh import Mesh
from tests.support.parts import free_port

TIMEOUT_S = 90.0


def run(
    mesh: Mesh | None, *arguments: str, stdin: str = "", gateway: str = "", code: int = 0
) -> "subprocess.CompletedProcess[str]":
    """Runs the command against the mesh and checks its exit code."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "COLUMNS": "140",
        "INFERMESH_GATEWAY": gateway or (mesh.gateway if mesh else ""),
        "INFERMESH_API_KEY": mesh.key if mesh else "",
    }
    finished = subprocess.run(
        [Path(sys.executable).with_name("infermesh"), *arguments],
        cwd="/",
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == code, f"{arguments}: {finished.returncode}\n{finished.stdout}\n{finished.stderr}"
    assert "Traceback" not in finished.stderr
    return finished


def asked(mesh: Mesh, *arguments: str, stdin: str = "") -> Any:
    """What a script gets."""
    return json.loads(run(mesh, *arguments, "--json", stdin=stdin).stdout)


def test_status_shows_every_part_and_what_is_served(mesh: Mesh) -> None:
    state = asked(mesh, "status")
    assert state["gateway"] == mesh.gateway
    assert {part["name"] for part in state["parts"]} == {
        *("batcher", "registry", "deployer", "router", "batch", "monitor")
    }
    assert all(part["healthy"] for part in state["parts"]), state
    served = {(item["model_name"], item["version"]): item for item in state["deployments"]}
    assert served["digits", OLD]["status"] == "active"
    shown = run(mesh, "status").stdout
    assert "digits" in shown
    assert "batcher" in shown


def test_predictions_from_argument_file_and_standard_input(mesh: Mesh, tmp_path: Path) -> None:
    sample = mesh.samples[3]
    one = json.dumps(sample["instance"])
    lines = "\n".join(json.dumps(item["instance"]) for item in mesh.samples)
    (tmp_path / "rows.jsonl").write_text(lines)
    assert asked(mesh, "predict", "digits", one)["predictions"][0]["class"] == str(sample["label"])
    expected = {version: [item["expected"][version] for item in mesh.samples] for version in (OLD, NEW)}
    for answer, version in (
        (asked(mesh, "predict", "digits", "--file", str(tmp_path / "rows.jsonl")), OLD),
        (asked(mesh, "predict", "digits", "--version", NEW, stdin=lines), NEW),
    ):
        assert answer["model_version"] == version
        assert [item["output"] for item in answer["predictions"]] == expected[version]
    shown = run(mesh, "predict", "digits", one).stdout
    assert f"digits {OLD}" in shown
    assert "%" in shown


def test_models_and_versions(mesh: Mesh) -> None:
    assert "digits" in {item["name"] for item in asked(mesh, "models", "list")["models"]}
    assert asked(mesh, "models", "show", "digits")["model"]["name"] == "digits"
    assert [item["version"] for item in asked(mesh, "models", "versions", "digits")["versions"]] == [NEW, OLD]
    shown = run(mesh, "models", "show", "digits", OLD).stdout
    assert re.search(r"X\b.*FP32", shown)
    assert "probabilities" in shown


def test_a_models_life(mesh: Mesh) -> None:
    name = f"cli-{secrets.token_hex(4)}"
    folder = ROOT / ".build" / "digits"
    for version in (OLD, NEW):
        made = asked(
            mesh,
            *("register", name, version, str(folder / f"digits-{version}.onnx")),
            *("--metadata", f"@{folder / f'digits-{version}.json'}", "--tag", "cli"),
        )
        assert made["version"] == version
        deployed = asked(mesh, "deploy", name, version)
        assert deployed["status"] == "active"
    traffic = asked(mesh, "traffic", "show", name)
    assert traffic["traffic_split"] == {OLD: 100}
    asked(mesh, "traffic", "set", name, f"{OLD}=75", f"{NEW}=25")
    assert asked(mesh, "traffic", "show", name)["traffic_split"] == {OLD: 75, NEW: 25}
    assert "75" in run(mesh, "traffic", "show", name).stdout
    deployments = asked(mesh, "deployments", name)["deployments"]
    assert {item["version"] for item in deployments} == {OLD, NEW}
    asked(mesh, "traffic", "set", name, f"{OLD}=100")
    gone = next(item for item in deployments if item["version"] == NEW)
    asked(mesh, "undeploy", name, gone["deployment_name"])
    left = asked(mesh, "deployments", name)["deployments"]
    assert {item["version"] for item in left} == {OLD}
    failed = run(mesh, "predict", name, json.dumps(mesh.samples[0]["instance"]), "--version", NEW, "--json", code=3)
    assert json.loads(failed.stderr)["error"]["code"] == "NOT_FOUND"


def test_a_job_from_submission_to_result(mesh: Mesh, tmp_path: Path) -> None:
    rows = holdout(120)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = asked(mesh, "batch", "submit", "digits", str(source), str(target), "--version", OLD)
    job_id = job["job_id"]
    watched = run(mesh, "batch", "watch", job_id, "--json").stdout.splitlines()
    last = json.loads(watched[-1])
    assert last["status"] == "completed"
    assert last["progress"]["processed_records"] == len(rows)
    assert asked(mesh, "batch", "show", job_id)["status"] == "completed"
    assert job_id in {item["job_id"] for item in asked(mesh, "batch", "list")["jobs"]}
    assert job_id in run(mesh, "batch", "list").stdout
    assert len(target.read_text().splitlines()) == len(rows)
    # What is over cannot be cancelled, and the command says so.
    run(mesh, "batch", "cancel", job_id, code=5)


def test_a_job_is_sampled_followed_and_ends_with_its_figures(mesh: Mesh, tmp_path: Path) -> None:
    rows = holdout(120)
    rows[7]["X"] = rows[7]["X"][:3]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sampled = run(mesh, "batch", "sample", "digits", str(source), "--version", OLD, "--column", "digit").stdout
    assert "99 of the first 100 rows predicted" in sampled
    for word in ("digit", "confidence", "row-0099", "SCHEMA_VIOLATION"):
        assert word in sampled
    assert "row-0100" not in sampled
    words = ("submit", "digits", str(source), str(target), "--version", OLD, "--follow")
    followed = run(mesh, "batch", *words)
    assert "completed" in followed.stderr.splitlines()[-1]
    for word in ("rows     120", "failed   1, all in", "rows/s", "row-0007", "SCHEMA_VIOLATION"):
        assert word in followed.stdout
    assert len(target.read_text().splitlines()) == 1 + 119
    failed = run(mesh, "batch", *words, "--overwrite", "--max-failed", "0", code=1)
    assert "more than max_failed_fraction" in failed.stderr
    assert "infermesh batch retry" in failed.stderr


def test_metrics_are_shown(mesh: Mesh) -> None:
    asked(mesh, "predict", "digits", json.dumps(mesh.samples[0]["instance"]))
    answer = asked(mesh, "metrics", "digits", "--last", "1h")
    assert answer["total"]["model_name"] == "digits"
    run(mesh, "metrics", "digits")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("predict", "no-such-model", '{"x": 1}'), 3, "no-such-model"),
        (("predict", "digits", '{"X": [1, 2]}'), 2, "64"),
        (("predict", "digits", "{"), 2, "JSON"),
        (("models", "show", "no-such-model"), 3, "no-such-model"),
        (("deploy", "digits", "v9.9.9"), 3, "v9.9.9"),
        (("register", "digits", "one", "/nowhere.onnx"), 2, "one"),
        (("traffic", "set", "digits", "v1.0.0=ninety"), 2, "ninety"),
        (("batch", "show", "no-such-job"), 3, "no-such-job"),
        (("metrics", "digits", "--last", "soon"), 2, "soon"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_failures_are_a_sentence_and_an_exit_code(mesh: Mesh, arguments: tuple[str, ...], code: int, word: str) -> None:
    finished = run(mesh, *arguments, code=code)
    assert finished.stdout == ""
    assert word in finished.stderr
    assert len(finished.stderr.splitlines()) <= 12


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    finished = run(None, "models", "list", gateway=nowhere, code=4)
    assert nowhere in finished.stderr
    assert "make run" in finished.stderr
    scripted = run(None, "status", "--json", gateway=nowhere, code=4)
    assert json.loads(scripted.stderr)["error"]["reason"] == "GATEWAY_UNREACHABLE"


def test_help_lists_the_commands_and_completion_is_offered() -> None:
    shown = run(None, "--help").stdout
    for name in ("up", "status", "models", "register", "deploy", "predict", "traffic", "batch", "metrics"):
        assert re.search(rf"\b{name}\b", shown)
    assert "--install-completion" in shown
