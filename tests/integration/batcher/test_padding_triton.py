"""Requests of different sizes in one batch before a real Triton, with a model that has a variable dimension."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from services.batcher.adapters.backend_clients import open_client
from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import Backend, Batching, Padding, ServedVersion
from services.batcher.engines.engine import Engine
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.supervisor.process import Process
from tests.integration.batcher.test_triton import CLOCK
from tests.integration.deployer.test_runner import NAME, put, value
from tests.support.parts import loader_of, triton_in

SCHEMA = ModelSchema(
    (TensorSpec("x", DataType.FP32, (-1,)), TensorSpec("lengths", DataType.INT64, (1,), optional=True)),
    (TensorSpec("doubled", DataType.FP32, (-1,)), TensorSpec("total", DataType.FP32)),
)
PADDING = Padding(value=1000.0, lengths_input="lengths", trim_outputs=("doubled",), waste_max=0.6)


def model(folder: Path) -> Path:
    """Doubles each number, and adds up as many as the lengths say."""
    constants = [
        helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("from", TensorProto.INT64, [], [0]),
        helper.make_tensor("step", TensorProto.INT64, [], [1]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "step"], ["size"], axis=0),
        helper.make_node("Range", ["from", "size", "step"], ["places"]),
        helper.make_node("Less", ["places", "lengths"], ["inside"]),
        helper.make_node("Where", ["inside", "x", "zero"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["total"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [value("x", TensorProto.FLOAT, "n", "t"), value("lengths", TensorProto.INT64, "n", 1)],
        [value("doubled", TensorProto.FLOAT, "n", "t"), value("total", TensorProto.FLOAT, "n")],
        constants,
    )
    path = folder / "sums.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


class Batches:
    """How large they were."""

    def __init__(self) -> None:
        self.requests: list[int] = []

    def batch_answered(self, model_name: str, version: str, run: BatchRun) -> None:
        self.requests.append(run.requests)

    def batch_failed(self, model_name: str, version: str, run: BatchRun, *, kind: str) -> None:
        raise AssertionError(run.failure)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedVersion]:
    part = triton_in(tmp_path)
    await put(tmp_path, (model(tmp_path), SCHEMA))
    process = await Process.start(part, clock=CLOCK)
    loader = loader_of(part)
    try:
        await process.wait_ready()
        await loader.load(NAME)
        backend = Backend("triton-0", f"127.0.0.1:{part.ports['triton_http']}", "", NAME)
        yield ServedVersion("tried", "v1.0.0", "d", SCHEMA, batching=Batching(padding=PADDING), backends=(backend,))
    finally:
        await loader.close()
        await process.stop()


def ask(served: ServedVersion, *rows: list[float]) -> InferRequest:
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    tensor = Tensor("x", DataType.FP32, (len(rows), len(rows[0])), data)
    return InferRequest(served, len(rows), (tensor,), CLOCK.monotonic() + 20)


def told(result: InferResult) -> tuple[tuple[int, ...], list[float], list[float]]:
    doubled, total = result.outputs
    return (
        doubled.shape,
        [number for (number,) in struct.iter_unpack("<f", doubled.data)],
        [number for (number,) in struct.iter_unpack("<f", total.data)],
    )


async def test_requests_of_different_sizes_share_batches_and_get_what_they_get_alone(served: ServedVersion) -> None:
    batches = Batches()
    engine = Engine(clock=CLOCK, open_client=open_client, observer=batches)
    await engine.start()
    try:
        asked = [[[float(at + one) for one in range(1 + at % 40)]] * (1 + at % 3) for at in range(200)]
        alone = [told(await engine.infer(ask(served, *rows))) for rows in asked]
        for rows, (shape, doubled, totals) in zip(asked, alone, strict=True):
            assert shape == (len(rows), len(rows[0]))
            assert doubled == [2 * number for row in rows for number in row]
            assert totals == [sum(row) for row in rows]
        batches.requests.clear()
        together = await asyncio.gather(*(engine.infer(ask(served, *rows)) for rows in asked))
        assert [told(result) for result in together] == alone
        assert sum(batches.requests) == len(asked)
        assert len(batches.requests) < len(asked) / 4
    finally:
        await engine.stop(1)
