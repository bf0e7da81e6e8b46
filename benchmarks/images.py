"""The model of the part `adaptive` on this machine: made where it is missing, served by the mesh in two ways."""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from infermesh.client import Client, InfermeshError
from infermesh.client.credentials import Credentials
from infermesh.deployer.v1 import deployment_pb2

from benchmarks.bare_triton import Served
from benchmarks.load import LoadFailedError
from benchmarks.payloads import Sample
from services.supervisor.settings import ROOT, SupervisorSettings

MODEL = "images"
BATCHED, SINGLE = "v1.0.0", "v1.0.1"
"""The same file as two versions: one with adaptive batching, one without any."""
ROWS_MAX = 64
FOLDER = ROOT / ".build" / "bench" / MODEL
SERVED = Served(MODEL, FOLDER / "images.onnx", (3, 32, 32), "scores", 10)
_RECIPE = Path(__file__).with_name("images_recipe.py")
_STAMP = "made-from"
_TIMEOUT_S = 60.0


def make() -> Sequence[Sample]:
    """The samples, a row in each; makes model and samples first where they are not of this recipe. Raises
    LoadFailedError with the recipe's last words.
    """
    python = SupervisorSettings().serving_env / "bin" / "python"
    wanted = hashlib.sha256(_RECIPE.read_bytes() + (ROOT / "requirements" / "serving.lock").read_bytes()).hexdigest()
    stamp = FOLDER / _STAMP
    if not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        run = subprocess.run(
            [str(python), str(_RECIPE), str(FOLDER)], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
        if run.returncode:
            words = run.stderr.strip().splitlines()
            raise LoadFailedError(f"cannot make the images model: {words[-1] if words else 'it says nothing'}")
        stamp.write_text(wanted)
    with np.load(FOLDER / "samples.npz") as kept:
        return [Sample(row[None], (int(label),)) for row, label in zip(kept["rows"], kept["labels"], strict=True)]


def deploy(gateway: str, key: str = "") -> None:
    """Registers and deploys both versions through the public API; returns when both answer. Raises LoadFailedError."""
    try:
        with Client(gateway, timeout_s=_TIMEOUT_S, credentials=Credentials(key)) as mesh:
            for version in (BATCHED, SINGLE):
                mesh.models.register(MODEL, version, SERVED.artifact, framework="onnx")
                batching = deployment_pb2.Batching(enabled=version == BATCHED, max_batch_size=ROWS_MAX)
                split = {version: 100} if version == BATCHED else None
                name = mesh.deployments.deploy(MODEL, version, batching=batching, traffic_split=split).deployment_name
                mesh.deployments.wait(MODEL, name, timeout_s=_TIMEOUT_S)
    except InfermeshError as error:
        raise LoadFailedError(f"the images model cannot be deployed: {error}") from error
