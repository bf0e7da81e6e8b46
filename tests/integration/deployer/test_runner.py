"""The runner inside the real Triton: text, batches that Triton joins, blame, models that are not what they seem."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.package import package_of
from services.deployer.domain.trial import check_answer, trial_inputs
from services.supervisor.settings import ROOT
from tests.integration.deployer.driving import Triton
from tests.support.clock import NOON

NAME = "tried--v1.0.0"
OPSET = helper.make_opsetid("", 17)


def save(folder: Path, node: onnx.NodeProto, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto],
         constants: tuple[onnx.TensorProto, ...] = ()) -> Path:  # fmt: skip
    graph = helper.make_graph([node], "tried", inputs, outputs, initializer=list(constants))
    path = folder / "tried.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[OPSET], ir_version=8).SerializeToString())
    return path


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def echo(folder: Path) -> tuple[Path, ModelSchema]:
    """Gives back the text that it gets."""
    node = helper.make_node("Identity", ["said"], ["heard"])
    path = save(folder, node, [value("said", TensorProto.STRING, "n")], [value("heard", TensorProto.STRING, "n")])
    return path, ModelSchema((TensorSpec("said", DataType.BYTES),), (TensorSpec("heard", DataType.BYTES),))


def lookup(folder: Path) -> tuple[Path, ModelSchema]:
    """Looks up a number from 0 to 3, and fails on any other: a failure that the shape does not show."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [4], [0.0, 10.0, 20.0, 30.0])
    node = helper.make_node("Gather", ["table", "place"], ["found"], axis=0)
    inputs, outputs = [value("place", TensorProto.INT64, "n", 1)], [value("found", TensorProto.FLOAT, "n", 1)]
    schema = ModelSchema((TensorSpec("place", DataType.INT64, (1,)),), (TensorSpec("found", DataType.FP32, (1,)),))
    return save(folder, node, inputs, outputs, (table,)), schema


def single(folder: Path) -> tuple[Path, ModelSchema]:
    """Has its batch dimension fixed at 1."""
    node = helper.make_node("Identity", ["x"], ["y"])
    path = save(folder, node, [value("x", TensorProto.FLOAT, 1, 4)], [value("y", TensorProto.FLOAT, 1, 4)])
    return path, ModelSchema((TensorSpec("x", DataType.FP32, (4,)),), (TensorSpec("y", DataType.FP32, (4,)),))


@pytest.fixture
async def server(triton: Triton) -> AsyncIterator[TritonServer]:
    ports = triton.part.ports
    place = Place("triton-0", f"127.0.0.1:{ports['triton_http']}", f"127.0.0.1:{ports['triton_grpc']}")
    client = TritonServer(place, load_timeout_s=60)
    yield client
    await client.close()


async def put(folder: Path, made: tuple[Path, ModelSchema]) -> None:
    """Packages a model into the repository."""
    path, schema = made
    recipe = Recipe("onnx", str(path), hashlib.sha256(path.read_bytes()).hexdigest(), schema, PredictionMapping())
    deployment = Deployment(
        "id", NewDeployment("tried", "v1.0.0", "d", Wish()), recipe, Wish(), Progress(), 1, NOON, NOON
    )
    packages = FolderPackageStore(folder / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await packages.start()
    await packages.ensure(package_of(deployment, runner_digest=packages.runner_digest(), threads_default=1))


async def infer(triton: Triton, name: str, datatype: str, shape: list[int], data: list[object]) -> httpx.Response:
    body = {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{triton.part.ports['triton_http']}") as client:
        return await client.post(f"/v2/models/{NAME}/infer", json=body, timeout=10)


async def test_text_goes_in_and_comes_out(triton: Triton, server: TritonServer, tmp_path: Path) -> None:
    made = echo(tmp_path)
    await put(tmp_path, made)
    await server.load(NAME)
    check_answer(made[1], 2, await server.infer(NAME, trial_inputs(made[1], 2)))
    words = ["", "two words", "Grüße, 世界", "x" * 5000]
    answer = await infer(triton, "said", "BYTES", [4], list(words))
    assert answer.json()["outputs"][0]["data"] == words


async def test_of_requests_that_triton_joined_only_the_guilty_one_fails(
    triton: Triton, server: TritonServer, tmp_path: Path
) -> None:
    await put(tmp_path, lookup(tmp_path))
    config = tmp_path / "repository" / NAME / "config.pbtxt"
    batching = config.read_text().replace("max_batch_size: 0", "max_batch_size: 64").replace("[ -1, 1 ]", "[ 1 ]")
    config.write_text(batching + "dynamic_batching { max_queue_delay_microseconds: 200000 }\n")
    await server.load(NAME)
    asked = [0, 1, 2, 99, 3, 1]
    answers = await asyncio.gather(*(infer(triton, "place", "INT64", [1, 1], [place]) for place in asked))
    assert [answer.status_code == 200 for answer in answers] == [place < 4 for place in asked]
    assert [answer.json()["outputs"][0]["data"] for answer in answers if answer.status_code == 200] == [
        [0.0], [10.0], [20.0], [30.0], [10.0]
    ]  # fmt: skip
    assert "99" in answers[3].json()["error"]
    assert await _executions(triton) < len(asked)


async def _executions(triton: Triton) -> int:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{triton.part.ports['triton_http']}") as client:
        answer = await client.get(f"/v2/models/{NAME}/stats")
    return int(answer.json()["model_stats"][0]["execution_count"])


async def test_a_model_for_single_rows_fails_its_trial_and_not_its_callers(
    server: TritonServer, tmp_path: Path
) -> None:
    made = single(tmp_path)
    await put(tmp_path, made)
    await server.load(NAME)
    check_answer(made[1], 1, await server.infer(NAME, trial_inputs(made[1], 1)))
    with pytest.raises(MeshError, match="Expected: 1") as failed:
        await server.infer(NAME, trial_inputs(made[1], 2))
    assert failed.value.reason is Reason.WARMUP_FAILED


async def test_a_schema_that_names_other_tensors_fails_the_trial(server: TritonServer, tmp_path: Path) -> None:
    path, schema = single(tmp_path)
    wrong = replace(schema, outputs=(TensorSpec("z", DataType.FP32, (4,)),))
    await put(tmp_path, (path, wrong))
    await server.load(NAME)
    with pytest.raises(MeshError, match="z") as failed:
        await server.infer(NAME, trial_inputs(wrong, 1))
    assert failed.value.reason is Reason.WARMUP_FAILED
