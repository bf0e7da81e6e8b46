"""A batcher that a gateway carries, in a real Envoy: every protocol, versions by route, stops, replaced listeners."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from services.router.adapters.envoy import listener, names
from services.supervisor.parts.envoy import carrying_gateway
from services.supervisor.parts.probes import http_ready
from services.supervisor.ports import free_ports
from tests.support.batcher_faces_calls import digits_request
from tests.support.batcher_faces_process import batcher_part
from tests.support.carried import APPLICATION, NOBODY, Carrying, carrying
from tests.support.parts import running
from tests.support.waiting import eventually

BODY = {"instances": [{"X": [1.0] * 64}]}
REST = "/v1/models/digits/predict"


@pytest_asyncio.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Carrying]:
    """One of the test's own."""
    monkeypatch.setattr(names, "APPLICATION", APPLICATION)
    async with carrying(tmp_path) as here:
        yield here


async def versions(gateway: Carrying, asked: int, **headers: str) -> set[str]:
    """The versions that answer REST requests."""
    async with httpx.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=10) as client:
        answers = [await client.post(REST, json=BODY, headers=headers) for _ in range(asked)]
    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    return {answer.json()["model_version"] for answer in answers}


async def test_all_protocols_get_the_version_of_the_route(gateway: Carrying) -> None:
    assert await versions(gateway, 3) == {"v1.1.0"}
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer: prediction_pb2.PredictResponse = await stub.Predict(digits_request(), timeout=10)
        named: prediction_pb2.PredictResponse = await stub.Predict(
            digits_request(), metadata=(("x-model-name", "digits"),), timeout=10
        )
        streamed = [
            item async for item in stub.StreamPredict(iter([digits_request(), digits_request(label=2.0)]), timeout=10)
        ]
    assert (answer.model_version, named.model_version) == ("v1.1.0", "v1.1.0")
    assert [item.response.predictions[0].output.int64_value for item in streamed] == [1, 2]
    async with httpx.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=10) as client:
        tensor = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
        inferred = (await client.post("/v2/models/digits/infer", json={"inputs": [tensor]})).json()
    assert inferred["model_version"] == "v1.1.0"


async def test_routes_decide_and_callers_may_decide_otherwise(gateway: Carrying) -> None:
    await gateway.publish({"v1.0.0": 50, "v1.1.0": 50})
    assert await versions(gateway, 40) == {"v1.0.0", "v1.1.0"}
    await gateway.publish({"v1.0.0": 100})
    assert await versions(gateway, 5) == {"v1.0.0"}
    assert await versions(gateway, 2, **{"x-model-version": "v1.1.0"}) == {"v1.1.0"}


async def test_what_only_the_gateway_may_say_is_not_taken_from_callers(gateway: Carrying) -> None:
    forged = {"x-route-version": "v1.0.0", "x-mesh-shadow": "1", "x-infermesh-team": "others", "x-mesh-model": "nope"}
    assert await versions(gateway, 2, **forged) == {"v1.1.0"}
    await eventually(lambda: gateway.monitor.groups(), what="the predictions are logged")
    assert {kind for group in gateway.monitor.groups() for kind in group.request_kinds} <= {0}
    assert "others" not in str(gateway.monitor.groups())


async def test_a_body_beyond_the_bound_is_refused_with_the_bound(gateway: Carrying) -> None:
    async with httpx.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=30) as client:
        answer = await client.post(
            REST, content=b"[" * (13 * 1024 * 1024), headers={"content-type": "application/json"}
        )
    assert answer.status_code == 413
    assert "12 MB" in answer.text


async def test_what_cannot_be_now_is_412_over_rest_and_failed_precondition_over_grpc(gateway: Carrying) -> None:
    async with httpx.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=10) as client:
        answer = await client.post(REST, json={**BODY, "explain": True}, headers={"x-envoy-original-path": "/forged"})
    error = answer.json()
    assert (answer.status_code, error["code"]) == (412, 9)
    assert error["details"][0]["reason"] == "EXPLANATION_UNAVAILABLE"
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Predict(digits_request(explain=True), metadata=(("x-envoy-original-path", "/f"),), timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_stop_answers_what_is_in_flight(gateway: Carrying, tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        slow = asyncio.ensure_future(stub.Predict(digits_request(parameters={"do": "slow"}), timeout=10))
        await stub.Predict(digits_request(), timeout=10)
        os.kill(gateway.process.pid, signal.SIGTERM)
        answer: prediction_pb2.PredictResponse = await slow
    assert len(answer.predictions) == 1
    assert await asyncio.wait_for(gateway.process.wait(), 10) == 0
    lines = [json.loads(line) for line in (tmp_path / "batcher.log").read_text().splitlines() if line.startswith("{")]
    assert [entry["cut_off"] for entry in lines if entry.get("event") == "drained"] == [0]


async def test_a_stop_before_the_router_has_told_anything_is_heeded(tmp_path: Path) -> None:
    """The signals are blocked from the beginning, so somebody must wait for them from the beginning."""
    gateway_port, admin_port = free_ports(2)
    alone = batcher_part(tmp_path, application="services.batcher.app:app")
    part = carrying_gateway(
        alone, gateway_port=gateway_port, admin_port=admin_port, ads_address=NOBODY, work_dir=tmp_path, threads=1
    )
    begun = http_ready("127.0.0.1", admin_port, "/server_info")
    async with running(replace(part, ready=begun)) as process:
        os.kill(process.pid, signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 10)


async def test_a_replaced_listener_loses_no_request(gateway: Carrying, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each listener has a batcher of its own, and for a moment there are two."""
    failures: list[str] = []
    answered = 0
    stop = asyncio.Event()

    async def ask() -> None:
        nonlocal answered
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not stop.is_set():
                try:
                    await stub.Predict(digits_request(), timeout=10)
                    answered += 1
                except grpc.aio.AioRpcError as error:
                    failures.append(repr(error))

    tasks = [asyncio.create_task(ask(), name=f"caller {place}") for place in range(4)]
    await eventually(lambda: answered > 50)
    monkeypatch.setattr(listener, "_HEADERS_MAX", 127)
    await gateway.restart_plane()
    await gateway.publish({"v1.1.0": 100})
    before = answered
    await eventually(lambda: answered > before + 300)
    stop.set()
    await asyncio.gather(*tasks)
    assert failures == []
