"""Triton from its wheel with the generic runner: loads by request, answers, says what is wrong, leaves nothing."""

import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest

from services.supervisor.parts.part import Part
from services.supervisor.parts.triton import shared_memory_prefix
from services.supervisor.settings import ROOT
from tests.support.parts import running, triton_in

CONFIG = """
name: "digits--v1.0.0"
backend: "python"
max_batch_size: 0
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1, 64 ] } ]
output [
  { name: "label" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "probabilities" data_type: TYPE_FP32 dims: [ -1, 10 ] }
]
"""
SERVING = {
    "framework": "onnx",
    "artifact": "model.onnx",
    "threads": 1,
    "inputs": [{"name": "X", "datatype": "FP32"}],
    "outputs": [{"name": "label", "datatype": "INT64"}, {"name": "probabilities", "datatype": "FP32"}],
}
DIGITS = ROOT / ".build" / "digits"


def package(repository: Path, serving: dict[str, object], artifact: Path) -> None:
    """Puts one version into the model repository."""
    version = repository / "digits--v1.0.0" / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    (version / "serving.json").write_bytes(orjson.dumps(serving))
    for module in (ROOT / "deploy" / "triton" / "runner").glob("*.py"):
        shutil.copy(module, version)
    shutil.copy(artifact, version / "model.onnx")


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return triton_in(tmp_path)


@pytest.fixture
async def triton(part: Part) -> AsyncIterator[httpx.AsyncClient]:
    async with running(part), httpx.AsyncClient(base_url=f"http://127.0.0.1:{part.ports['triton_http']}") as client:
        yield client


def regions(prefix: str) -> list[Path]:
    """The shared memory whose name begins with `prefix`."""
    return list(Path("/dev/shm").glob(f"{prefix}*"))


async def load(triton: httpx.AsyncClient) -> httpx.Response:
    return await triton.post("/v2/repository/models/digits--v1.0.0/load", timeout=30)


def tensor(rows: list[list[float]]) -> dict[str, object]:
    data = [pixel for row in rows for pixel in row]
    return {"inputs": [{"name": "X", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": data}]}


async def test_a_version_answers_as_it_did_when_it_was_trained(triton: httpx.AsyncClient, tmp_path: Path) -> None:
    package(tmp_path / "repository", SERVING, DIGITS / "digits-v1.0.0.onnx")
    assert (await load(triton)).status_code == 200
    samples = orjson.loads((DIGITS / "samples.json").read_bytes())
    body = tensor([sample["instance"]["X"] for sample in samples])
    answer = await triton.post("/v2/models/digits--v1.0.0/infer", json=body)
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert outputs["label"]["data"] == [sample["expected"]["v1.0.0"] for sample in samples]
    assert outputs["probabilities"]["shape"] == [len(samples), 10]


async def test_only_the_outputs_that_were_asked_for_come_back(triton: httpx.AsyncClient, tmp_path: Path) -> None:
    package(tmp_path / "repository", SERVING, DIGITS / "digits-v1.1.0.onnx")
    await load(triton)
    body = {**tensor([[0.0] * 64]), "outputs": [{"name": "label"}]}
    answer = await triton.post("/v2/models/digits--v1.0.0/infer", json=body)
    assert [output["name"] for output in answer.json()["outputs"]] == ["label"]


async def test_what_is_wrong_with_an_artifact_is_the_answer_to_the_load(
    triton: httpx.AsyncClient, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    package(tmp_path / "repository", SERVING, broken)
    answer = await load(triton)
    assert answer.status_code == 400
    assert "INVALID_PROTOBUF" in answer.text


async def test_an_unknown_framework_names_those_that_are_known(triton: httpx.AsyncClient, tmp_path: Path) -> None:
    package(tmp_path / "repository", {**SERVING, "framework": "caffe"}, DIGITS / "digits-v1.0.0.onnx")
    answer = await load(triton)
    assert answer.status_code == 400
    assert "no adapter for framework 'caffe'; there is one for: lightgbm, onnx, python" in answer.text


async def test_a_killed_server_leaves_no_shared_memory_and_no_process(part: Part, tmp_path: Path) -> None:
    package(tmp_path / "repository", SERVING, DIGITS / "digits-v1.0.0.onnx")
    prefix = shared_memory_prefix(tmp_path)
    async with running(part) as process:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{part.ports['triton_http']}") as client:
            assert (await load(client)).status_code == 200
        assert regions(prefix)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    assert regions(prefix) == []
