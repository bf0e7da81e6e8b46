"""Models of every framework, trained on real data in the framework's own environment, before a test asks for them."""

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.deployer.adapters.environments import UvEnvironments
from services.deployer.domain.environment import environment_of
from services.deployer.settings import DeployerSettings
from services.deployer.wiring import installer
from services.supervisor.settings import ROOT

LINKS = "INFERMESH_DEPLOYER_PACKAGE_LINKS"
_TRAINING = ROOT / "tests" / "support" / "training"
_TRAINING_TIMEOUT_S = 120


@dataclass(frozen=True)
class Case:
    """An artifact, how to register it, and what its framework answers by itself."""

    form: str
    framework: str
    artifact: Path
    register: dict[str, Any]
    instances: Sequence[dict[str, Any]]
    expected: Sequence[dict[str, Any]]


def use_wheels_of_pip() -> None:
    """Wheels that pip is told of in this environment are for the meshes of the tests, too."""
    os.environ.setdefault(LINKS, os.environ.get("PIP_FIND_LINKS", ""))


def trained(framework: str, out: Path) -> Sequence[Case]:
    """The cases of a framework. Skips, saying so, where what it needs is not to be had here."""
    python = python_of(framework)
    command = [str(python), str(_TRAINING / f"{framework}_models.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TRAINING_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [_case(folder) for folder in sorted(out.iterdir())]


def python_of(framework: str) -> Path:
    """The Python of an environment for a framework. Skips, saying so, where what it needs is not to be had here."""
    use_wheels_of_pip()
    if framework == "pytorch" and not _has_small_torch():
        pytest.skip("PyTorch without CUDA is not to be had: PIP_FIND_LINKS names no folder with torch-…+cpu….whl")
    return asyncio.run(_environment(framework)) / "bin" / "python"


async def _environment(framework: str) -> Path:
    """What the framework needs, and the data that scikit-learn brings."""
    settings = DeployerSettings(database_url="postgresql+psycopg://none", package_links=os.environ.get(LINKS, ""))  # type: ignore[arg-type]
    environments = UvEnvironments(
        ROOT / ".build" / "environments", installer(settings), clock=SystemClock(), keep_s=float("inf")
    )
    wanted = environment_of(
        framework,
        framework_version="",
        stated=("scikit-learn", "pandas"),
        own_code=True,
        locked=environments.locked(framework),
    )

    async def report(words: str) -> None:
        print(words)

    try:
        return await environments.ensure(wanted, report)
    except MeshError as error:
        pytest.skip(f"what {framework} needs cannot be installed here: {error.message[:500]}")


def _has_small_torch() -> bool:
    return any(any(Path(link).glob("torch-*+cpu-*.whl")) for link in os.environ.get(LINKS, "").split())


def _case(folder: Path) -> Case:
    said = json.loads((folder / "case.json").read_text())
    return Case(
        form=folder.name,
        framework=said["framework"],
        artifact=folder / said["artifact"],
        register=said["register"],
        instances=said["instances"],
        expected=said["expected"],
    )
