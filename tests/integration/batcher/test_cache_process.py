"""The prediction cache in a real batcher process, before a model server that counts and with a real Valkey."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from infermesh.common.v1 import serving_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2, prediction_service_pb2_grpc

from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.supervisor.parts.part import Part
from services.supervisor.parts.valkey import valkey_part
from tests.support.batcher_engine_server import Server
from tests.support.batcher_faces_calls import address_of, asking, digits_request, scraped
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import free_port, running
from tests.support.standing_still import stand_still
from tests.support.waiting import eventually

NUMBERS = ModelSchema((TensorSpec("x", DataType.INT64),), (TensorSpec("y", DataType.INT64),))
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Setting:
    """A batcher and what it works with."""

    part: Part
    stub: Any
    server: Server
    router: FakeRouter
    monitor: FakeMonitor


def model(server: Server, *, digest: str = "a" * 64, deterministic: bool = True) -> serving_pb2.ServedModel:
    """A model that gives back its numbers."""
    made = served_model(
        "v1.0.0", name="m", schema=NUMBERS, mapping=PredictionMapping("y"), http_address=f"127.0.0.1:{server.port}"
    )
    made.versions[0].deterministic = deterministic
    made.versions[0].artifact_digest = digest
    return made


def asked(*numbers: int) -> prediction_pb2.PredictRequest:
    features = [{"x": instance_pb2.Feature(int64_value=number)} for number in numbers]
    return prediction_pb2.PredictRequest(
        model_name="m", instances=[instance_pb2.Instance(features=one) for one in features]
    )


async def predict(stub: Any, *numbers: int, **headers: str) -> str:
    """Asks, checks the answer, and says what the header says of the cache."""
    metadata = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    call = stub.Predict(asked(*numbers), timeout=TIMEOUT_S, metadata=metadata)
    answer = await call
    assert [item.output.int64_value for item in answer.predictions] == list(numbers)
    return str(dict(await call.initial_metadata()).get("x-infermesh-cache", ""))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


@asynccontextmanager
async def setting(
    folder: Path, server: Server, served: serving_pb2.ServedModel, settings: Mapping[str, object] | None = None
) -> AsyncIterator[Setting]:
    """The real batcher."""
    router, monitor = FakeRouter(full_table(served)), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(
            folder,
            router=neighbours,
            monitor=neighbours,
            application="services.batcher.app:app",
            settings={"redis_read_timeout_ms": 500, **(settings or {})},
        )
        async with running(part), grpc.aio.insecure_channel(address_of(part)) as channel:
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            yield Setting(part, stub, server, router, monitor)


async def test_the_second_time_nothing_reaches_the_model(tmp_path: Path, server: Server) -> None:
    async with setting(tmp_path, server, model(server)) as made:
        assert [await predict(made.stub, 7) for _ in range(3)] == ["miss", "hit", "hit"]
        assert server.requests == 1
        assert [await predict(made.stub, 8, 7, 9, 8), await predict(made.stub, 9, 8)] == ["partial", "hit"]
        assert server.requests == 2
        counted = await scraped(made.part)
        assert counted["model_batch_size_count"] == 2
        assert counted["model_batch_size_sum"] == 3
        assert (counted["model_cache_hits_total"], counted["model_cache_misses_total"]) == (5, 3)
        assert counted["model_cache_entries"] == 3
        assert 3 * 8 < counted["model_cache_bytes"] < 10_000
        assert counted["model_requests_total"] == 5


async def test_every_answer_is_logged_with_its_class_whoever_made_it(tmp_path: Path) -> None:
    served = served_model("v1.0.0")
    served.versions[0].deterministic, served.versions[0].artifact_digest = True, "a" * 64
    router, monitor = FakeRouter(full_table(served)), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(tmp_path, router=neighbours, monitor=neighbours)
        async with running(part), asking(part) as stub:
            for _ in range(3):
                answer = await stub.Predict(digits_request(label=4), timeout=TIMEOUT_S)
                assert answer.predictions[0].confidence == pytest.approx(0.91)
            await eventually(lambda: sum(sum(group.request_rows) for group in monitor.groups()) == 3)
            counted = await scraped(part)
    by_class = [dict(group.predictions_by_class) for group in monitor.groups()]
    assert sum(group.get("4", 0) for group in by_class) == 3
    assert sum(group.predictions_by_confidence["high"] for group in monitor.groups()) == 3
    assert (counted["model_cache_hits_total"], counted["model_cache_misses_total"]) == (2, 1)


async def test_neither_another_team_nor_another_artifact_is_answered_from_it(tmp_path: Path, server: Server) -> None:
    async with setting(tmp_path, server, model(server)) as made:
        assert await predict(made.stub, 7, x_infermesh_team="a") == "miss"
        assert await predict(made.stub, 7, x_infermesh_team="b") == "miss"
        assert await predict(made.stub, 7) == "miss"
        assert await predict(made.stub, 7, x_infermesh_team="a") == "hit"
        made.router.steps.put_nowait(full_table(model(server, digest="b" * 64), revision=2))
        await eventually(lambda: made.router.heard[-1].acknowledged_revision == 2)
        assert await predict(made.stub, 7, x_infermesh_team="a") == "miss"
        assert server.requests == 4


async def test_shadow_copies_reach_the_model_and_background_work_is_cached(tmp_path: Path, server: Server) -> None:
    async with setting(tmp_path, server, model(server)) as made:
        assert await predict(made.stub, 7, x_priority="background") == "miss"
        assert await predict(made.stub, 7) == "hit"
        assert await predict(made.stub, 7, x_mesh_shadow="1") == ""
        assert server.requests == 2


@pytest.mark.parametrize(("deterministic", "settings"), [(False, {}), (True, {"cache_bytes": 0})])
async def test_without_the_wish_nothing_is_cached(
    tmp_path: Path, server: Server, deterministic: bool, settings: Mapping[str, object]
) -> None:
    async with setting(tmp_path, server, model(server, deterministic=deterministic), settings) as made:
        assert [await predict(made.stub, 7) for _ in range(2)] == ["", ""]
        assert server.requests == 2


async def test_json_and_tensors_share_what_is_kept_and_say_so(tmp_path: Path, server: Server) -> None:
    async with setting(tmp_path, server, model(server)) as made:
        assert await predict(made.stub, 7) == "miss"
        body = httpbody_pb2.HttpBody(content_type="application/json", data=b'{"instances": [{"x": 7}]}')
        call = made.stub.PredictJson(
            prediction_service_pb2.PredictJsonRequest(model_name="m", body=body), timeout=TIMEOUT_S
        )
        assert json.loads((await call).data)["predictions"][0]["output"] == 7
        assert dict(await call.initial_metadata())["x-infermesh-cache"] == "hit"
        tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [7]}
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(
                f"http://{address_of(made.part)}/v2/models/m/infer", json={"inputs": [tensor]}, timeout=TIMEOUT_S
            )
        assert response.json()["outputs"][0]["data"] == [7]
        assert response.headers["x-infermesh-cache"] == "hit"
        assert server.requests == 1


async def test_another_batcher_finds_it_in_redis_and_its_death_is_no_error(tmp_path: Path, server: Server) -> None:
    redis_part = valkey_part(port=free_port(), data_dir=tmp_path / "redis", log_path=tmp_path / "redis.log")
    settings = {"redis_url": f"redis://127.0.0.1:{redis_part.ports['redis']}/0"}
    async with running(redis_part) as redis:
        async with setting(tmp_path / "one", server, model(server), settings) as made:
            await eventually(lambda: is_up(made.part))
            assert await predict(made.stub, 7) == "miss"
            await eventually(lambda: sample(made.part, "model_cache_redis_written_total", 1))
        async with setting(tmp_path / "two", server, model(server), settings) as made:
            await eventually(lambda: is_up(made.part))
            assert await predict(made.stub, 7) == "hit"
            assert server.requests == 1
            stand_still(redis.pid)
            try:
                assert set(await asyncio.gather(*[predict(made.stub, number) for number in range(100, 150)])) == {
                    "miss"
                }
            finally:
                os.kill(redis.pid, signal.SIGKILL)
            assert await predict(made.stub, 8) == "miss"
            assert await predict(made.stub, 7) == "hit"


async def is_up(part: Part) -> bool:
    return await sample(part, "model_cache_redis_up", 1)


async def sample(part: Part, name: str, value: float) -> bool:
    return (await scraped(part))[name] == value
