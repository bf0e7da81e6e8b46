"""What callers may say in more than one way, and what they should not say at all."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api import httpbody_pb2
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from infermesh.prediction.v1 import prediction_service_pb2, prediction_service_pb2_grpc

from tests.integration.batcher.conftest import Running
from tests.support.batcher_faces_calls import digits_request, events, scraped
from tests.support.batcher_faces_process import batcher_part
from tests.support.waiting import eventually

TIMEOUT_S = 8.0
SERVICE = "infermesh.prediction.v1.PredictionService"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def stub(batcher: Running) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(batcher.address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def json_request(**fields: object) -> prediction_service_pb2.PredictJsonRequest:
    document = {"instances": [{"X": [1.0] * 64}], **fields}
    body = httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(document).encode())
    return prediction_service_pb2.PredictJsonRequest(model_name="digits", body=body)


def tensor_request() -> grpc_service_pb2.ModelInferRequest:
    request = grpc_service_pb2.ModelInferRequest(model_name="digits")
    request.inputs.add(name="X", datatype="FP32", shape=(1, 64)).contents.fp32_contents.extend([1.0] * 64)
    return request


@pytest.mark.parametrize(
    ("stated", "headers", "expected"),
    [
        ({}, {}, "v1.0.0"),
        ({}, {"x-route-version": "v1.1.0"}, "v1.1.0"),
        ({}, {"x-model-version": "1.1.0", "x-route-version": "v1.0.0"}, "v1.1.0"),
        ({"version": "v1.0.0"}, {"x-model-version": "v1.1.0", "x-route-version": "v1.1.0"}, "v1.0.0"),
    ],
)
async def test_a_version_in_a_json_body_is_the_strongest(
    stub: Any, stated: dict[str, object], headers: dict[str, str], expected: str
) -> None:
    answer = await stub.PredictJson(json_request(**stated), metadata=tuple(headers.items()), timeout=TIMEOUT_S)
    assert json.loads(answer.data)["model_version"] == expected


@pytest.mark.parametrize(
    ("timeout_s", "timeout_ms", "left_s"),
    [(None, 0, 29), (3.5, 0, 3), (None, 5500, 5), (7.5, 2500, 2), (4.5, 60_000, 4)],
)
async def test_the_shorter_time_limit_counts(stub: Any, timeout_s: float | None, timeout_ms: int, left_s: int) -> None:
    asked = digits_request(parameters={"do": "left"}, timeout_ms=timeout_ms)
    answer = await stub.Predict(asked, timeout=timeout_s)
    assert answer.predictions[0].output.int64_value == left_s
    if timeout_ms:
        same = await stub.PredictJson(json_request(parameters={"do": "left"}, timeout_ms=timeout_ms), timeout=timeout_s)
        assert json.loads(same.data)["predictions"][0]["output"] == left_s


async def test_a_stream_does_not_share_its_time_limit_out_among_its_requests(stub: Any) -> None:
    asked = [digits_request(parameters={"do": "left"}, timeout_ms=limit) for limit in (0, 3500)]
    answers = [answer async for answer in stub.StreamPredict(iter(asked), timeout=TIMEOUT_S - 1)]
    assert [answer.response.predictions[0].output.int64_value for answer in answers] == [29, 3]


@pytest.mark.parametrize(
    ("headers", "background"),
    [
        ({}, 0),
        ({"x-priority": "background"}, 1),
        ({"x-priority": "normal"}, 0),
    ],
)
async def test_the_engine_learns_whose_work_it_is(stub: Any, headers: dict[str, str], background: int) -> None:
    asked = digits_request(parameters={"do": "background"})
    answer = await stub.Predict(asked, metadata=tuple(headers.items()), timeout=TIMEOUT_S)
    assert answer.predictions[0].output.int64_value == background


async def test_a_priority_that_is_none_is_refused_in_every_protocol(stub: Any, batcher: Running) -> None:
    said = ("x-priority is 'urgent'", "normal", "background")
    wrong = (("x-priority", "urgent"),)
    tensors = tensor_request()
    async with grpc.aio.insecure_channel(batcher.address) as channel:
        inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call in (
            stub.Predict(digits_request(), metadata=wrong, timeout=TIMEOUT_S),
            stub.PredictJson(json_request(), metadata=wrong, timeout=TIMEOUT_S),
            inference.ModelInfer(tensors, metadata=wrong, timeout=TIMEOUT_S),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert all(words in (caught.value.details() or "") for words in said)
        streamed = [
            item async for item in inference.ModelStreamInfer(iter([tensors]), metadata=wrong, timeout=TIMEOUT_S)
        ]
        assert all(words in streamed[0].error_message for words in said)
    items = [item async for item in stub.StreamPredict(iter([digits_request()]), metadata=wrong, timeout=TIMEOUT_S)]
    assert all(words in items[0].error.message for words in said)
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [1.0] * 64}]}
    async with httpx.AsyncClient(base_url=f"http://{batcher.address}", trust_env=False, timeout=TIMEOUT_S) as rest:
        answer = await rest.post("/v2/models/digits/infer", json=body, headers=dict(wrong))
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_FIELD")
    assert all(words in answer.json()["error"] for words in said)


@pytest.mark.parametrize(
    ("field", "header", "expected"),
    [("of the body", "of the header", "of the body"), ("", "of the header", "of the header"), ("", "", "req_")],
)
async def test_a_request_has_the_id_that_was_stated_or_a_new_one(
    stub: Any, field: str, header: str, expected: str
) -> None:
    metadata = (("x-request-id", header),) if header else ()
    answers = [
        await stub.Predict(digits_request(request_id=field), metadata=metadata, timeout=TIMEOUT_S) for _ in range(2)
    ]
    ids = {answer.request_id for answer in answers}
    assert all(one.startswith(expected) for one in ids)
    assert len(ids) == (1 if field or header else 2)


@pytest.mark.parametrize("name", ["x" * 129, "two\nlines", "é"])
async def test_ids_that_would_break_logs_are_refused(stub: Any, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="request_id") as caught:
        await stub.Predict(digits_request(request_id=name), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("half_closed", [False, True])
async def test_no_more_than_64_requests_of_a_stream_are_in_work(fresh_batcher: Running, half_closed: bool) -> None:
    part = fresh_batcher.process.part
    async with grpc.aio.insecure_channel(fresh_batcher.address) as channel:
        stream = prediction_service_pb2_grpc.PredictionServiceStub(channel).StreamPredict(timeout=30)
        for _ in range(200):
            await stream.write(digits_request(parameters={"do": "wait"}))
        if half_closed:
            await stream.done_writing()

        async def works() -> bool:
            return (await scraped(part))["model_active_requests"] >= 64

        await eventually(works, what="64 are in work")
        # Others are not held up by it, and none of the 136 slips in meanwhile.
        other = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for _ in range(20):
            await other.Predict(digits_request(), timeout=TIMEOUT_S)
        assert (await scraped(part))["model_active_requests"] == 64
        stream.cancel()

        async def rests() -> bool:
            return (await scraped(part))["model_active_requests"] == 0

        await eventually(rests, what="all 64 are given up")
        assert (await scraped(part))["model_errors_total"] == 64
    assert events(part, level="error") == []


@pytest.mark.parametrize("method", ["Predict", "PredictJson", "StreamPredict"])
@pytest.mark.parametrize("kind", ["application/json", ""])
async def test_who_speaks_no_grpc_to_a_method_is_told_so_in_http(batcher: Running, method: str, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"http://{batcher.address}/{SERVICE}/{method}", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert "application/grpc" in answer.json()["error"]


@pytest.mark.parametrize("arguments", [["--http1.1"], ["--http2-prior-knowledge"]])
async def test_rest_is_answered_in_either_http(batcher: Running, arguments: list[str]) -> None:
    body = json.dumps({"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [3.0] * 64}]})
    url = f"http://{batcher.address}/v2/models/digits/infer"
    written = "\n%{http_version} %{http_code}"
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "-m", "8", *arguments, "-d", body, "-w", written, url), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    answer, _, said = out.decode().rpartition("\n")
    assert said == ("1.1 200" if arguments == ["--http1.1"] else "2 200")
    assert json.loads(answer)["outputs"][0]["data"] == [3]


async def test_the_unforeseen_is_logged_with_the_id_that_left(fresh_batcher: Running) -> None:
    async with grpc.aio.insecure_channel(fresh_batcher.address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        crash = digits_request(parameters={"do": "crash"}, request_id="mine")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Predict(crash, timeout=TIMEOUT_S)
        [answer] = [answer async for answer in stub.StreamPredict(iter([crash]), timeout=TIMEOUT_S)]
        assert "secret" not in str(answer)
        assert "secret" not in repr(caught.value)
    lines = [json.loads(line) for line in fresh_batcher.process.part.log_path.read_text().splitlines()]
    found = [line for line in lines if line["level"] == "error"]
    assert [(line["face"], line["request_id"], line["model"]) for line in found] == [
        ("Predict", "mine", "digits"),
        ("StreamPredict", "mine", "digits"),
    ]
    assert found[0]["error_id"] in str(caught.value.details())
    assert found[1]["error_id"] in answer.error.message
    assert all("a secret of the inside" in line["exception"] for line in found)


_PARENT = """
import asyncio, pickle, sys
from services.common.clock import SystemClock
from services.supervisor.process import Process
from tests.support.batcher_faces_process import batcher_part
from pathlib import Path

async def main():
    process = await Process.start(batcher_part(Path(sys.argv[1])), clock=SystemClock())
    print(process.pid, flush=True)
    await process.wait()

asyncio.run(main())
"""


async def test_it_ends_by_itself_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    log = batcher_part(tmp_path).log_path
    await eventually(lambda: log.exists() and "ready" in log.read_text(), what="the batcher runs")
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    await eventually(lambda: _gone(pid), what="it ended")
    assert '"event":"stopped"' in log.read_text()
    assert '"level":"error"' not in log.read_text()


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
