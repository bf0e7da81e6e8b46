"""The batcher as it is started, in front of a real Triton: every protocol recognises the same digits."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest
import pytest_asyncio
from google.api import httpbody_pb2
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2, prediction_service_pb2_grpc

from services.supervisor.process import Process
from tests.integration.deployer.driving import DIGITS as DIGITS_FOLDER
from tests.integration.deployer.test_runner import NAME, put
from tests.support.batcher_faces_process import DIGITS, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import loader_of, running, triton_in

SAMPLES = orjson.loads((DIGITS_FOLDER / "samples.json").read_bytes())
PIXELS = [sample["instance"]["X"] for sample in SAMPLES]
LABELS = [sample["expected"]["v1.0.0"] for sample in SAMPLES]
TIMEOUT_S = 20.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    folder = tmp_path_factory.mktemp("triton")
    part = triton_in(folder)
    async with running(part) as process:
        await put(folder, (DIGITS_FOLDER / "digits-v1.0.0.onnx", DIGITS))
        server = loader_of(part)
        await server.load(NAME)
        await server.close()
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(triton: Process, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    model = served_model("v1.0.0", http_address=f"127.0.0.1:{triton.part.ports['triton_http']}")
    model.versions[0].backends[0].server_model_name = NAME
    async with serving(router=FakeRouter(full_table(model))) as router:
        part = batcher_part(tmp_path_factory.mktemp("batcher"), router=router, application="services.batcher.app:app")
        async with running(part):
            yield f"127.0.0.1:{part.ports['batcher']}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as opened:
        yield opened


async def test_typed_predictions(channel: grpc.aio.Channel) -> None:
    stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    instances = [
        instance_pb2.Instance(features={"X": instance_pb2.Feature(float_list=instance_pb2.FloatList(values=pixels))})
        for pixels in PIXELS
    ]
    request = prediction_pb2.PredictRequest(model_name="digits", instances=instances)
    answer = await stub.Predict(request, timeout=TIMEOUT_S)
    assert [item.output.int64_value for item in answer.predictions] == LABELS
    assert [item.class_name for item in answer.predictions] == [str(label) for label in LABELS]
    for item in answer.predictions:
        assert sum(item.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert item.confidence == max(item.probabilities.values())


async def test_json_predictions(channel: grpc.aio.Channel) -> None:
    stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    body = httpbody_pb2.HttpBody(data=orjson.dumps({"instances": [{"X": pixels} for pixels in PIXELS]}))
    message = prediction_service_pb2.PredictJsonRequest(model_name="digits", body=body)
    shown = json.loads((await stub.PredictJson(message, timeout=TIMEOUT_S)).data)
    assert [item["output"] for item in shown["predictions"]] == LABELS


async def test_tensors_over_grpc_from_many_callers_at_once(channel: grpc.aio.Channel) -> None:
    stub: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def one(place: int) -> int:
        request = pb.ModelInferRequest(model_name="digits")
        request.inputs.add(name="X", datatype="FP32", shape=(1, 64))
        request.raw_input_contents.append(np.array(PIXELS[place], "<f4").tobytes())
        answer = await stub.ModelInfer(request, timeout=TIMEOUT_S)
        return int(np.frombuffer(answer.raw_output_contents[0], "<i8")[0])

    places = [place % len(PIXELS) for place in range(400)]
    assert await asyncio.gather(*map(one, places)) == [LABELS[place] for place in places]


async def test_tensors_over_rest(address: str) -> None:
    tensor = {"name": "X", "datatype": "FP32", "shape": [len(PIXELS), 64], "data": PIXELS}
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
        answer = await client.post(f"http://{address}/v2/models/digits/infer", json={"inputs": [tensor]})
        assert answer.json()["outputs"][0]["data"] == LABELS
        metrics = (await client.get(f"http://{address}/metrics")).text
    for name in ("model_batch_size_bucket", "model_queue_depth", "model_requests_total", "process_cpu_seconds_total"):
        assert name in metrics


async def test_without_its_backend_a_request_is_told_to_come_back(channel: grpc.aio.Channel, triton: Process) -> None:
    """Last in this file: it kills the Triton of the tests above."""
    os.kill(triton.pid, signal.SIGKILL)
    await triton.wait()
    stub: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = pb.ModelInferRequest(model_name="digits")
    request.inputs.add(name="X", datatype="FP32", shape=(1, 64))
    request.raw_input_contents.append(np.array(PIXELS[0], "<f4").tobytes())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "retry-after" in dict(caught.value.trailing_metadata() or ())
