"""What the training scripts write: a trained artifact, how to register it, and what its framework answers by itself.

The scripts run in a framework's own environment, so this imports nothing that Python does not bring. Of each form of a
model it writes a folder with `artifact/…` and a `case.json`:

    {"framework": "sklearn", "artifact": "artifact/model.skops",
     "register": {more fields of CreateModel},
     "instances": [{"X": [0.0, …]}, …],
     "expected": [{"output": 3, "probabilities": {"0": 0.1, …} or null}, …]}
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROWS = 20
"""Instances of each case."""
SEED = 7


def artifact_folder(out: Path, form: str) -> Path:
    """An empty folder for the artifact of a form."""
    folder = out / form / "artifact"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_case(
    artifact: Path,
    framework: str,
    instances: Sequence[Mapping[str, Any]],
    expected: Sequence[Mapping[str, Any]],
    register: Mapping[str, Any] | None = None,
) -> None:
    """Writes case.json of an artifact that lies in its form's folder."""
    folder = (
        next(one for one in artifact.parents if one.name == "artifact") if artifact.name != "artifact" else artifact
    )
    case = {
        "framework": framework,
        "artifact": str(artifact.relative_to(folder.parent)),
        "register": dict(register or {}),
        "instances": list(instances),
        "expected": list(expected),
    }
    (folder.parent / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def classified(
    labels: Sequence[Any], probabilities: Sequence[Sequence[float]], classes: Sequence[Any]
) -> list[dict[str, Any]]:
    """What is expected of a classifier. Probabilities are told by the names of the classes."""
    return [
        {"output": label, "probabilities": dict(zip(map(str, classes), map(float, row), strict=True))}
        for label, row in zip(labels, probabilities, strict=True)
    ]


def valued(values: Sequence[Any]) -> list[dict[str, Any]]:
    """What is expected of a model that gives numbers, or texts, alone."""
    return [{"output": value, "probabilities": None} for value in values]


def rows_of(matrix: Any, name: str = "X") -> list[dict[str, Any]]:
    """Instances with all features in one tensor."""
    return [{name: [float(value) for value in row]} for row in matrix]


def named_rows_of(matrix: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Instances with one number for each feature."""
    return [dict(zip(names, map(float, row), strict=True)) for row in matrix]


def run(main: Callable[[Path], None]) -> None:
    """Calls `main` with the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Train models for the end-to-end tests.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifacts and their cases")
    main(parser.parse_args().out)
