"""The Open Inference Protocol against a real batcher process: NVIDIA's client, plain stubs, plain REST."""

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest
import pytest_asyncio
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

from tests.integration.batcher.conftest import Running

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 10.0
INFER = "/v2/models/digits/infer"
LENGTH = "inference-header-content-length"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def stub(batcher: Running) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(batcher.address) as channel:
        yield grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest_asyncio.fixture(loop_scope="module")
async def rest(batcher: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{batcher.address}", trust_env=False, timeout=TIMEOUT_S) as opened:
        yield opened


def batch(*firsts: float) -> "np.ndarray[Any, np.dtype[np.float32]]":
    rows = np.zeros((len(firsts), 64), dtype=np.float32)
    rows[:, 0] = firsts
    return rows


def infer(*firsts: float, **fields: Any) -> pb.ModelInferRequest:
    rows = batch(*firsts)
    request = pb.ModelInferRequest(**{"model_name": "digits", **fields})
    request.inputs.add(name="X", datatype="FP32", shape=rows.shape)
    request.raw_input_contents.append(rows.tobytes())
    return request


def labels(response: pb.ModelInferResponse) -> list[int]:
    place = [output.name for output in response.outputs].index("label")
    found: list[int] = np.frombuffer(response.raw_output_contents[place], "<i8").tolist()
    return found


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_an_unchanged_tritonclient_works(batcher: Running, protocol: str) -> None:
    """In a process of its own: its protobuf messages and ours have the same names."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.e2e.triton_clients", protocol, batcher.address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    output, _ = await asyncio.wait_for(process.communicate(json.dumps(batch(3, 8).tolist()).encode()), 40)
    seen = json.loads(output)
    assert (seen["live"], seen["ready"], seen["model_ready"], seen["other_ready"]) == (True, True, True, False)
    assert seen["inputs"] == {"X": ["FP32", [-1, 64]]}
    assert seen["versions"] == ["v1.0.0", "v1.1.0"]
    for call, version in (("default", "v1.0.0"), ("named", "v1.1.0")):
        assert (seen[call]["label"], seen[call]["version"]) == ([3, 8], version)
    assert seen.get("mixed", seen["default"])["label"] == [3, 8]
    assert seen["request_id"] == "mine"
    assert seen["unknown_model"]["status"] in ("StatusCode.NOT_FOUND", "404")
    assert seen["bad_shape"]["status"] in ("StatusCode.INVALID_ARGUMENT", "400")
    assert "64" in seen["bad_shape"]["message"]


async def test_what_clients_ask_about_the_server_is_answered(stub: Any) -> None:
    config = (await stub.ModelConfig(pb.ModelConfigRequest(name="digits"), timeout=TIMEOUT_S)).config
    assert config.max_batch_size == 32
    assert config.dynamic_batching.max_queue_delay_microseconds == 5_000
    assert config.parameters["version"].string_value == "v1.0.0"
    assert [(item.name, list(item.dims)) for item in config.output] == [("label", [1]), ("probabilities", [10])]
    metadata = await stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=TIMEOUT_S)
    assert "binary_tensor_data" in metadata.extensions
    index = await stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=TIMEOUT_S)
    listed = [(item.version, item.state) for item in index.models if item.name == "digits"]
    assert listed == [("v1.0.0", "READY"), ("v1.1.0", "READY")]
    ready = pb.ModelReadyRequest(name="digits", version="v9.9.9")
    assert not (await stub.ModelReady(ready, timeout=TIMEOUT_S)).ready


async def test_outputs_come_in_the_order_in_which_they_are_asked_for(stub: Any) -> None:
    request = infer(3, 8, id="mine", model_version="1.1.0")
    request.outputs.add(name="probabilities")
    request.outputs.add(name="label")
    answer = await stub.ModelInfer(request, timeout=TIMEOUT_S)
    assert [output.name for output in answer.outputs] == ["probabilities", "label"]
    assert (labels(answer), answer.model_version, answer.id) == ([3, 8], "v1.1.0", "mine")


async def test_numbers_in_the_message_are_as_good_as_bytes(stub: Any) -> None:
    request = pb.ModelInferRequest(model_name="digits")
    tensor = request.inputs.add(name="X", datatype="FP32", shape=(1, 64))
    tensor.contents.fp32_contents.extend([6.0, *([0.0] * 63)])
    assert labels(await stub.ModelInfer(request, timeout=TIMEOUT_S)) == [6]


def with_parameter(name: str) -> pb.ModelInferRequest:
    request = infer(1)
    request.parameters[name].int64_param = 5
    return request


@pytest.mark.parametrize(
    ("request_of", "code", "words"),
    [
        (lambda: infer(1, model_name="absent"), grpc.StatusCode.NOT_FOUND, ["absent", "digits"]),
        (lambda: infer(1, model_version="v7.0.0"), grpc.StatusCode.NOT_FOUND, ["v7.0.0"]),
        (lambda: infer(1, model_version="seven"), grpc.StatusCode.NOT_FOUND, ["seven", "v1.0.0"]),
        (lambda: with_parameter("sequence_id"), grpc.StatusCode.UNIMPLEMENTED, ["sequence"]),
        (
            lambda: infer(1, outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="no")]),
            grpc.StatusCode.INVALID_ARGUMENT,
            ["no", "label"],
        ),
        (
            lambda: infer(1, outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="label")] * 2),
            grpc.StatusCode.INVALID_ARGUMENT,
            ["label", "once"],
        ),
        (lambda: with_parameter("n" * 9000), grpc.StatusCode.INVALID_ARGUMENT, ["parameters", "9008", "8192"]),
        (lambda: infer(1, raw_input_contents=[b""]), grpc.StatusCode.INVALID_ARGUMENT, ["raw_input_contents"]),
    ],
)
async def test_errors_say_what_is_wrong(stub: Any, request_of: Any, code: grpc.StatusCode, words: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request_of(), timeout=TIMEOUT_S)
    assert caught.value.code() is code
    assert all(word in str(caught.value.details()) for word in words)


async def test_what_is_not_offered_names_what_is(stub: Any) -> None:
    for call, word in (
        (stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest()), "CreateDeployment"),
        (stub.ModelStatistics(pb.ModelStatisticsRequest()), "/metrics"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=word) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stream_of_tensors_answers_each_in_its_turn(stub: Any) -> None:
    asked = [infer(place % 10, id=str(place), model_name="absent" if place == 4 else "digits") for place in range(100)]
    answers = [answer async for answer in stub.ModelStreamInfer(iter(asked), timeout=TIMEOUT_S)]
    assert [answer.infer_response.id for answer in answers] == [str(place) for place in range(100)]
    for place, answer in enumerate(answers):
        if place == 4:
            assert "absent" in answer.error_message
        else:
            assert (answer.error_message, labels(answer.infer_response)) == ("", [place % 10])


def rest_input(**fields: Any) -> dict[str, Any]:
    return {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [4.0, *([0.0] * 63)], **fields}


async def test_rest_takes_and_gives_numbers(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/v2/models/digits/versions/v1.1.0/infer", json={"id": "mine", "inputs": [rest_input()]})
    assert answer.status_code == 200
    probabilities = [0.91 if at == 4 else 0.01 for at in range(10)]
    assert answer.json() == {
        "id": "mine",
        "model_name": "digits",
        "model_version": "v1.1.0",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [4]},
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": probabilities},
        ],
    }
    nested = rest_input(data=[[4.0, *([0.0] * 63)]])
    assert (await rest.post(INFER, json={"inputs": [nested]})).json()["outputs"][0]["data"] == [4]


async def test_rest_takes_bytes_and_gives_both_kinds_in_one_answer(rest: httpx.AsyncClient) -> None:
    data = batch(9).tobytes()
    head = orjson.dumps(
        {
            "inputs": [{**rest_input(), "parameters": {"binary_data_size": len(data)}}],
            "outputs": [{"name": "label"}, {"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    )
    answer = await rest.post(INFER, content=head + data, headers={LENGTH: str(len(head))})
    assert answer.status_code == 200
    length = int(answer.headers[LENGTH])
    label, probabilities = orjson.loads(answer.content[:length])["outputs"]
    assert label["data"] == [9]
    assert probabilities["parameters"] == {"binary_data_size": 40}
    assert np.frombuffer(answer.content[length:], "<f4").argmax() == 9


@pytest.mark.parametrize(
    ("path", "options", "status", "words"),
    [
        ("/v2/models/absent/infer", {"json": {"inputs": [rest_input()]}}, 404, ["absent"]),
        (INFER, {"content": b"{"}, 400, ["JSON"]),
        (INFER, {"content": b"[]"}, 400, ["object"]),
        (INFER, {"json": {}}, 400, ["inputs"]),
        (INFER, {"json": {"inputs": [rest_input(shape=[1, 63])]}}, 400, ["X", "64"]),
        (INFER, {"json": {"inputs": [rest_input(data=["black"] * 64)]}}, 400, ["black", "inputs[0].data"]),
        (INFER, {"json": {"inputs": [rest_input(datatype="FLOAT")]}}, 400, ["FLOAT", "FP32"]),
        (INFER, {"json": {"inputs": [rest_input()], "parameters": {"do": "fail"}}}, 429, ["full"]),
        (INFER, {"content": b"{}", "headers": {LENGTH: "77"}}, 400, ["77"]),
        (INFER, {"content": b"{}", "headers": {LENGTH: "x"}}, 400, ["Inference-Header-Content-Length"]),
        (INFER, {"content": b"{}", "headers": {LENGTH: "9" * 5000}}, 400, ["Inference-Header-Content-Length"]),
        (INFER, {"content": gzip.compress(b"{}"), "headers": {"content-encoding": "gzip"}}, 501, ["gzip"]),
        ("/v2/models/digits/nothing", {"content": b""}, 404, ["nothing"]),
    ],
)
async def test_rest_errors_are_of_the_protocols_form(
    rest: httpx.AsyncClient, path: str, options: dict[str, Any], status: int, words: list[str]
) -> None:
    answer = await rest.post(path, **options)
    assert answer.status_code == status
    assert all(word in answer.json()["error"] for word in words), answer.text
    assert ("retry-after" in answer.headers) == (status == 429)


async def test_rest_says_what_is_ready_and_what_is_served(rest: httpx.AsyncClient) -> None:
    for path, status in {
        "/v2": 200,
        "/v2/health/live": 200,
        "/v2/health/ready": 200,
        "/v2/models/digits": 200,
        "/v2/models/digits/ready": 200,
        "/v2/models/digits/versions/1.1.0/ready": 200,
        "/v2/models/absent/ready": 404,
        "/v2/models/absent": 404,
        "/health": 200,
        "/ready": 200,
        "/metrics": 200,
        "/nowhere": 404,
    }.items():
        assert (await rest.get(path)).status_code == status, path


async def test_callers_in_any_number_get_their_own_rows(stub: Any) -> None:
    calls = [stub.ModelInfer(infer(place % 10, (place + 1) % 10), timeout=TIMEOUT_S) for place in range(300)]
    answers = [labels(answer) for answer in await asyncio.gather(*calls)]
    assert answers == [[place % 10, (place + 1) % 10] for place in range(300)]
