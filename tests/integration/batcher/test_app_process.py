"""The batcher's life: start without neighbours, restart from what was kept, drain, end."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from services.common.clock import SystemClock
from services.supervisor.process import Process
from tests.integration.batcher.conftest import echoing
from tests.integration.batcher.test_face_prediction import request
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually


async def status_of(address: str, path: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"http://{address}{path}", timeout=2)).status_code
        except httpx.HTTPError:
            return 0


async def test_without_a_table_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    part = batcher_part(tmp_path)
    address = f"127.0.0.1:{part.ports['batcher']}"
    process = await Process.start(part, clock=SystemClock())
    try:
        await eventually(lambda: alive(address), what="it lives")
        assert await status_of(address, "/ready") == 503
        assert await status_of(address, "/v2/health/ready") == 503
    finally:
        await process.stop()
    log = [json.loads(line) for line in part.log_path.read_text().splitlines() if line.startswith("{")]
    assert {entry["service"] for entry in log} == {"batcher"}
    assert not [entry for entry in log if entry["level"] == "error"]


async def alive(address: str) -> bool:
    return await status_of(address, "/health") == 200


async def test_a_restart_serves_what_was_kept_while_the_router_is_away(tmp_path: Path) -> None:
    part = batcher_part(tmp_path)
    kept = tmp_path / "data" / "serving_table.bin"
    router = FakeRouter(full_table(served_model("v1.0.0"), revision=3))
    async with serving(router=router) as neighbours:
        first = batcher_part(tmp_path, router=neighbours)
        async with running(first):
            await eventually(kept.exists, what="the table is on disk")
    async with running(part):
        address = f"127.0.0.1:{part.ports['batcher']}"
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert (await stub.Predict(request(2), timeout=10)).model_version == "v1.0.0"


async def test_a_damaged_table_is_left_aside(tmp_path: Path) -> None:
    kept = tmp_path / "data" / "serving_table.bin"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"infermesh serving table 1\n" + b"0" * 60)
    router = FakeRouter(full_table(served_model("v1.0.0"), revision=3))
    async with serving(router=router) as neighbours, running(batcher_part(tmp_path, router=neighbours)):
        await eventually(lambda: len(router.heard) == 2)
    assert router.heard[0].acknowledged_revision == 0


async def test_a_stop_answers_everything_in_flight(tmp_path: Path) -> None:
    async with echoing(tmp_path) as batcher, grpc.aio.insecure_channel(batcher.address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stream = stub.StreamPredict(timeout=20)
        await stream.write(request(1, request_id="on the stream", parameters={"do": "slow"}))
        calls = [stub.Predict(request(place % 10, parameters={"do": "slow"}), timeout=20) for place in range(100)]
        async with httpx.AsyncClient(trust_env=False) as client:

            async def all_in_flight() -> bool:
                text = (await client.get(f"http://{batcher.address}/metrics")).text
                return "model_active_requests 101.0" in text

            await eventually(all_in_flight, every_s=0.005)
        os.kill(batcher.process.pid, signal.SIGTERM)
        answers = await asyncio.gather(*calls)
        assert [answer.predictions[0].output.int64_value for answer in answers] == [place % 10 for place in range(100)]
        assert (await stream.read()).request_id == "on the stream"
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.wait_for(batcher.process.wait(), 5) == 0


async def test_nothing_fails_at_callers_who_go_elsewhere_when_told_to(tmp_path: Path) -> None:
    """What the batcher has read is answered, and who is told to leave finds the door shut, not a wrong answer.

    A connection that the kernel took and the batcher never saw is reset when the door shuts: nothing of it was read, so
    trying elsewhere is safe, as the gateway does. The log says that nothing was cut off that had been read.
    """
    async with echoing(tmp_path) as batcher, httpx.AsyncClient(trust_env=False) as client:
        failures: list[str] = []
        answered = 0
        body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [1.0] * 64}]}

        async def ask() -> None:
            nonlocal answered
            while True:
                try:
                    answer = await client.post(f"http://{batcher.address}/v2/models/digits/infer", json=body)
                except (httpx.ConnectError, httpx.ReadError):
                    return
                except httpx.HTTPError as error:
                    failures.append(repr(error))
                    return
                if answer.status_code != 200:
                    failures.append(answer.text)
                answered += 1

        tasks = [asyncio.create_task(ask(), name=f"caller {place}") for place in range(8)]
        await eventually(lambda: answered > 200)
        os.kill(batcher.process.pid, signal.SIGTERM)
        await asyncio.gather(*tasks)
        assert failures == []
        assert await asyncio.wait_for(batcher.process.wait(), 5) == 0
        log = [json.loads(line) for line in (tmp_path / "batcher.log").read_text().splitlines() if line.startswith("{")]
        assert [entry["cut_off"] for entry in log if entry["event"] == "drained"] == [0]


async def test_a_stop_is_bounded_whatever_is_in_flight(tmp_path: Path) -> None:
    async with echoing(tmp_path) as batcher, grpc.aio.insecure_channel(batcher.address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        call = stub.Predict(request(1, parameters={"do": "wait"}), timeout=60)
        waiting = asyncio.ensure_future(call.code())
        await asyncio.wait([waiting], timeout=0.3)
        began_s = asyncio.get_running_loop().time()
        os.kill(batcher.process.pid, signal.SIGTERM)
        assert await status_of(batcher.address, "/ready") in (503, 0)
        assert await asyncio.wait_for(batcher.process.wait(), 10) == 0
        assert asyncio.get_running_loop().time() - began_s < 5
        assert await waiting is not grpc.StatusCode.OK


async def test_a_chunk_whose_acknowledgement_was_lost_is_sent_again(tmp_path: Path) -> None:
    router, monitor = FakeRouter(full_table(served_model("v1.0.0"))), FakeMonitor()
    monitor.drop = True
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(tmp_path, router=neighbours, monitor=neighbours)
        async with running(part), grpc.aio.insecure_channel(f"127.0.0.1:{part.ports['batcher']}") as channel:
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            await stub.Predict(request(1), timeout=10)
            await eventually(lambda: monitor.received >= 2, what="the chunk came twice")
            assert list(monitor.chunks) == [1]
            await stub.Predict(request(1), timeout=10)
            await eventually(lambda: 2 in monitor.chunks)


async def test_what_a_dead_monitor_cannot_take_is_dropped_and_counted(tmp_path: Path) -> None:
    router = FakeRouter(full_table(served_model("v1.0.0")))
    async with serving(router=router) as neighbours:
        part = batcher_part(tmp_path, router=neighbours, settings={"log_rows_max": 10})
        address = f"127.0.0.1:{part.ports['batcher']}"
        async with running(part), grpc.aio.insecure_channel(address) as channel, httpx.AsyncClient() as client:
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for _ in range(25):
                answer: prediction_pb2.PredictResponse = await stub.Predict(request(1), timeout=10)
                assert answer.predictions
            text = (await client.get(f"http://{address}/metrics")).text
    assert "batcher_prediction_log_dropped_total 15.0" in text
    assert "batcher_prediction_log_held 10.0" in text


async def test_a_table_that_cannot_be_is_refused_and_the_last_one_stays(tmp_path: Path) -> None:
    bad = served_model("v2.0.0")
    bad.versions[0].schema.inputs[0].ClearField("data_type")
    router = FakeRouter(full_table(served_model("v1.0.0"), revision=3), full_table(bad, revision=4))
    async with serving(router=router) as neighbours:
        part = batcher_part(tmp_path, router=neighbours)
        address = f"127.0.0.1:{part.ports['batcher']}"
        async with running(part):
            await eventually(lambda: len(router.heard) == 3)
            assert router.heard[1].acknowledged_revision == 3
            assert router.heard[2].acknowledged_revision == 3
            assert "data_type" in router.heard[2].error_message
            assert await status_of(address, "/v2/models/digits/versions/v1.0.0/ready") == 200


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def test_it_is_one_process(tmp_path: Path) -> None:
    """So the death signal that the supervisor gave it reaches Envoy, and killing it leaves nothing."""
    async with echoing(tmp_path) as batcher:
        assert name_of(batcher.process.pid) == "envoy"
        os.kill(batcher.process.pid, signal.SIGKILL)
        await batcher.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(batcher.process.pid, 0)
            pytest.fail("a process of its group is left")
