"""Each line that `make run` prints works when pasted."""

import os
import subprocess

import orjson
import pytest

from services.supervisor.examples import lines_to_try
from services.supervisor.ports import MeshPorts
from services.supervisor.settings import ROOT
from tests.support.mesh import Mesh

TIMEOUT_S = 90


@pytest.fixture
def pasted(mesh: Mesh) -> list[str]:
    """What each printed line prints."""
    outputs = []
    for what, command in lines_to_try(MeshPorts(gateway=mesh.port("gateway")), key=bool(mesh.key)):
        run = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            env={**os.environ, "INFERMESH_API_KEY": mesh.key},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert run.returncode == 0, f"{what}: {run.stdout}{run.stderr}"
        outputs.append(run.stdout)
    return outputs


def test_all_four_lines_work(pasted: list[str], mesh: Mesh) -> None:
    rest, typed, open_inference, listing = pasted
    sample = mesh.samples[0]
    answer = orjson.loads(rest)
    assert answer["model_name"] == "digits"
    assert answer["predictions"][0]["class"] == str(sample["label"])
    for output in (typed, open_inference):
        assert f"it is a {sample['label']}" in output
        assert f"says {sample['label']}" in output
    for service in ("PredictionService", "RegistryService", "DeployerService", "RouterService", "BatchService"):
        assert service in listing
