"""The runner's adapters on GPUs that are not there, and in half precision, in the environments that models run in."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.supervisor.settings import ROOT
from tests.support.dense_models import save_dense
from tests.support.frameworks import python_of

ARTIFACTS = ROOT / "tests" / "data" / "artifacts"
SERVING = ROOT / ".venv-serving" / "bin" / "python"


def ask(python: Path, adapter: str, artifact: Path, serving: dict[str, Any], rows: Path) -> dict[str, Any]:
    """What the adapter answers, or what it refused the artifact with."""
    command = [str(python), str(ROOT / "tests" / "support" / "run_adapter.py"), str(ROOT / "deploy/triton/runner")]
    command += [f"{adapter}_adapter", str(artifact), json.dumps({"threads": 1} | serving), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def tensors(x: str, width: int, *outputs: str) -> dict[str, Any]:
    return {
        "inputs": [{"name": x, "datatype": "FP32", "shape": [width]}],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in outputs],
    }


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", np.random.default_rng(7).normal(size=(5, 64)).astype(np.float32))
    return tmp_path / "rows.npy"


@pytest.mark.parametrize(
    ("wished", "lacking"),
    [({"gpu": 0}, "CUDAExecutionProvider"), ({"gpu": 0, "precision": "fp16"}, "TensorrtExecutionProvider")],
)
def test_onnx_says_what_onnxruntime_lacks_for_a_gpu(
    tmp_path: Path, rows: Path, wished: dict[str, Any], lacking: str
) -> None:
    save_dense(tmp_path / "dense.onnx")
    serving = tensors("X", 64, "scores")
    said = ask(SERVING, "onnx", tmp_path / "dense.onnx", serving | wished, rows)
    assert f"this onnxruntime has no {lacking}, only " in said["refused"]
    assert "install onnxruntime-gpu" in said["refused"]
    kind, scores = ask(SERVING, "onnx", tmp_path / "dense.onnx", serving | {"gpu": None}, rows)["scores"]
    assert (kind, len(scores)) == ("float32", 5)


@pytest.mark.parametrize("file", ["torchscript.pt", "exported.pt2"])
def test_pytorch_halves_its_weights_and_answers_nearly_the_same(tmp_path: Path, file: str) -> None:
    python = python_of("pytorch")
    np.save(tmp_path / "rows.npy", np.random.default_rng(7).normal(size=(5, 4)).astype(np.float32))
    outputs = ("label", "scores")
    whole, half = (
        ask(python, "pytorch", ARTIFACTS / file, tensors("x", 4, *outputs) | precision, tmp_path / "rows.npy")
        for precision in ({}, {"precision": "fp16"})
    )
    floats = [name for name in outputs if whole[name][0] == "float32"]
    assert floats
    for name in outputs:
        assert np.allclose(whole[name][1], half[name][1], atol=5e-3)
    assert {half[name][0] for name in floats} == {"float16"}
    assert any(whole[name][1] != half[name][1] for name in floats), "it computed in another number format"


def test_pytorch_says_what_gpus_it_sees(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((1, 4), np.float32))
    serving = tensors("x", 4, "label", "scores") | {"gpu": 3}
    said = ask(python_of("pytorch"), "pytorch", ARTIFACTS / "torchscript.pt", serving, tmp_path / "rows.npy")
    assert "sees 0 GPUs and none with the number 3" in said["refused"]
