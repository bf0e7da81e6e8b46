"""A real batcher process whose version is cold: what callers of every protocol see, and what the deployer hears."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc
from infermesh.common.v1 import serving_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.supervisor.parts.part import Part
from tests.support.batcher_cold import ScriptedDeployer, deploying
from tests.support.batcher_engine_server import Server
from tests.support.batcher_faces_calls import address_of, scraped
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

NUMBERS = ModelSchema((TensorSpec("x", DataType.INT64),), (TensorSpec("y", DataType.INT64),))
TIMEOUT_S = 20.0
INPUT = {"name": "x", "datatype": "INT64", "shape": [1], "data": [7]}


def model(server: Server, *, cold: bool) -> serving_pb2.ServedModel:
    """A model that gives back its numbers, or will once it is loaded."""
    made = served_model(
        "v1.0.0", name="m", schema=NUMBERS, mapping=PredictionMapping("y"), http_address=f"127.0.0.1:{server.port}"
    )
    made.versions[0].deterministic = True
    made.versions[0].artifact_digest = "a" * 64
    if cold:
        made.versions[0].cold = True
        del made.versions[0].backends[:]
    return made


def asked(number: int) -> prediction_pb2.PredictRequest:
    """One row."""
    feature = instance_pb2.Feature(int64_value=number)
    return prediction_pb2.PredictRequest(model_name="m", instances=[instance_pb2.Instance(features={"x": feature})])


@dataclass(frozen=True)
class Setting:
    """A batcher and what it works with."""

    part: Part
    stub: Any
    oip: Any
    rest: httpx.AsyncClient
    server: Server
    router: FakeRouter
    deployer: ScriptedDeployer

    def tell(self, *, cold: bool, revision: int) -> None:
        """The router hands over another table."""
        self.router.steps.put_nowait(full_table(model(self.server, cold=cold), revision=revision))


@asynccontextmanager
async def setting(folder: Path) -> AsyncIterator[Setting]:
    """The version is cold, and listed as soon as it is loaded."""
    server, deployer = Server(), ScriptedDeployer()
    await server.start()
    router = FakeRouter(full_table(model(server, cold=True)))
    async with serving(router=router, monitor=FakeMonitor()) as neighbours, deploying(deployer) as address:
        part = batcher_part(
            folder,
            router=neighbours,
            monitor=neighbours,
            deployer=address,
            application="services.batcher.app:app",
            settings={"demand_period_s": 0.2},
        )
        async with (
            running(part),
            grpc.aio.insecure_channel(address_of(part)) as channel,
            httpx.AsyncClient(base_url=f"http://{address_of(part)}", trust_env=False, timeout=TIMEOUT_S) as rest,
        ):
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            inference: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            yield Setting(part, stub, inference, rest, server, router, deployer)
    await server.stop()


async def test_a_cold_version_is_ready_is_loaded_once_and_answers_all(tmp_path: Path) -> None:
    async with setting(tmp_path) as made:
        for path in ("/ready", "/v2/models/m/ready"):
            assert (await made.rest.get(path)).status_code == 200
        metadata = (await made.rest.get("/v2/models/m")).json()
        assert [one["name"] for one in metadata["inputs"]] == ["x"]
        ready = oip.ModelReadyRequest(name="m", version="v1.0.0")
        assert (await made.oip.ModelReady(ready, timeout=TIMEOUT_S)).ready
        config = oip.ModelConfigRequest(name="m")
        assert (await made.oip.ModelConfig(config, timeout=TIMEOUT_S)).config.name == "m"
        assert made.deployer.activations == [], "nobody asked for a prediction"

        async def load() -> None:
            made.tell(cold=False, revision=2)

        made.deployer.load = load
        answers = await asyncio.gather(*(made.stub.Predict(asked(number), timeout=TIMEOUT_S) for number in range(50)))
        assert [one.predictions[0].output.int64_value for one in answers] == list(range(50))
        assert made.deployer.activations == [("m", "v1.0.0")]
        figures = await scraped(made.part)
        assert figures["batcher_cold_start_seconds_count"] == 1
        await eventually(
            lambda: sum(one.requests for report in made.deployer.reports for one in report.demands) == 50,
            what="the deployer hears of the demand",
        )
        silent = len(made.deployer.reports)
        await eventually(lambda: len(made.deployer.reports) > silent + 1, what="and of silence")
        assert not made.deployer.reports[-1].demands
        made.tell(cold=True, revision=3)
        await eventually(lambda: made.router.heard[-1].acknowledged_revision == 3, what="it is cold again")
        cached = await made.stub.Predict(asked(7), timeout=TIMEOUT_S)
        assert cached.predictions[0].output.int64_value == 7
        assert len(made.deployer.activations) == 1, "a kept answer loads nothing"


async def test_what_the_deployer_says_reaches_callers_of_every_protocol(tmp_path: Path) -> None:
    async with setting(tmp_path) as made:
        made.deployer.outcome = MeshError(Reason.LOAD_FAILED, "it needs 3 GB and 1 GB is free; scale another down")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.stub.Predict(asked(1), timeout=TIMEOUT_S)
        error = caught.value
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        info = error_details_pb2.ErrorInfo()
        packed = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
        assert isinstance(packed, bytes)
        assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
        assert (info.reason, info.metadata["version"]) == ("LOAD_FAILED", "v1.0.0")
        assert "loading it failed: it needs 3 GB and 1 GB is free" in str(error.details())
        answer = await made.rest.post("/v2/models/m/infer", json={"inputs": [INPUT]})
        assert (answer.status_code, answer.json()["reason"]) == (412, "LOAD_FAILED")
        assert len(made.deployer.activations) == 1
        made.deployer.outcome = None

        async def load() -> None:
            made.tell(cold=False, revision=2)

        made.deployer.load = load

        async def answered() -> bool:
            return (await made.rest.post("/v2/models/m/infer", json={"inputs": [INPUT]})).status_code == 200

        await eventually(answered, every_s=0.2, what="it is tried again")
        assert len(made.deployer.activations) == 2
        log = [json.loads(line) for line in made.part.log_path.read_text().splitlines() if line.startswith("{")]
        assert [entry["event"] for entry in log if entry["level"] == "error"] == []


async def test_a_cold_version_survives_a_restart_on_disk(tmp_path: Path) -> None:
    async with setting(tmp_path) as made:
        kept = tmp_path / "data" / "serving_table.bin"
        await eventually(kept.exists, what="the table is on disk")
        made.deployer.outcome = MeshError(Reason.VERSION_NOT_DEPLOYED, "no")
    deployer = ScriptedDeployer()
    deployer.outcome = MeshError(Reason.VERSION_NOT_DEPLOYED, "no deployment of it exists")
    async with deploying(deployer) as address:
        part = batcher_part(tmp_path, deployer=address, application="services.batcher.app:app")
        async with running(part), grpc.aio.insecure_channel(address_of(part)) as channel:
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="no deployment of it exists"):
                await stub.Predict(asked(1), timeout=TIMEOUT_S)
    assert deployer.activations == [("m", "v1.0.0")]
