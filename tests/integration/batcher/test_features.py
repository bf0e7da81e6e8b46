"""Features joined by a real batcher process, with a Valkey that is there, dies, and stands still."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from infermesh.client.feature_store import FeatureRow, FeatureStore
from infermesh.client.features import to_instance
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureView, OnMissing
from services.common.feature_view_proto import views_to_proto
from services.common.grpc.channel import open_channel
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.supervisor.parts.valkey import valkey_part
from services.supervisor.process import Process
from tests.support.batcher_faces_process import (
    DIGITS,
    FakeRouter,
    batcher_part,
    full_table,
    served_model,
    serving,
)
from tests.support.parts import free_port, running
from tests.support.standing_still import standing_still
from tests.support.waiting import eventually

# The model of these tests answers with the first element of the first input as its label.
SCHEMA = ModelSchema((TensorSpec("score", DataType.FP32), TensorSpec("x", DataType.FP32)), DIGITS.outputs)
STRICT = FeatureView("stats", "user_id", {"score": "float"})
LENIENT = FeatureView("stats", "user_id", {"score": "float"}, on_missing=OnMissing.DEFAULT, defaults={"score": 9})


@dataclass(frozen=True)
class Mesh:
    """A batcher and its Valkey."""

    address: str
    redis_url: str
    valkey: Process

    def put(self, user: str, score: float) -> None:
        with FeatureStore(self.redis_url) as store:
            store.put("stats", "user_id", [FeatureRow(user, {"score": score})])

    async def predict(self, model: str, *instances: dict[str, object]) -> list[str]:
        """The class of each instance, by the typed method."""
        async with open_channel(self.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = prediction_pb2.PredictRequest(
                model_name=model, instances=[to_instance(instance) for instance in instances]
            )
            response = await stub.Predict(request, timeout=20)
        return [prediction.class_name for prediction in response.predictions]

    async def metric(self, line: str) -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{self.address}/metrics", timeout=20)).text
        return sum(float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line))


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    models = [served_model("v1.0.0", name=name, schema=SCHEMA) for name in ("strict", "lenient")]
    models[0].versions[0].feature_views.extend(views_to_proto([STRICT]))
    models[1].versions[0].feature_views.extend(views_to_proto([LENIENT]))
    router = FakeRouter(full_table(*models, served_model("v1.0.0")))
    valkey = valkey_part(port=free_port(), data_dir=tmp_path / "redis", log_path=tmp_path / "redis.log")
    url = f"redis://127.0.0.1:{valkey.ports['redis']}/0"
    settings = {"redis_url": url, "feature_cache_s": 0, "feature_deadline_ms": 500}
    async with serving(router=router) as neighbour, running(valkey) as redis:
        part = batcher_part(tmp_path / "batcher", router=neighbour, settings=settings)
        async with running(part):
            await eventually(lambda: len(router.heard) == 2, what="the batcher acknowledged its table")
            made = Mesh(f"127.0.0.1:{part.ports['batcher']}", url, redis)
            made.put("warm", 1.0)

            async def connected() -> bool:
                try:
                    return await made.predict("strict", {"user_id": "warm", "x": 0.0}) == ["1"]
                except MeshError:
                    return False

            await eventually(connected, what="the batcher found its Redis")
            yield made


async def test_features_are_added_in_every_protocol_and_the_callers_win(mesh: Mesh) -> None:
    mesh.put("42", 4.0)
    mesh.put("ann", 5.0)
    assert await mesh.predict(
        "strict", {"user_id": 42, "x": 0.0}, {"user_id": "ann", "x": 0.0}, {"user_id": 42, "x": 0.0, "score": 7.0}
    ) == ["4", "5", "7"]
    # Whoever sends all of them needs no entity.
    assert await mesh.predict("strict", {"x": 0.0, "score": 8.0}) == ["8"]
    with triton.InferenceServerClient(mesh.address) as client:
        users = triton.InferInput("user_id", [3], "BYTES")
        users.set_data_from_numpy(np.array([b"42", b"ann", b"42"], dtype=np.object_))
        x = triton.InferInput("x", [3], "FP32")
        x.set_data_from_numpy(np.zeros(3, dtype=np.float32))
        assert client.infer("strict", [users, x]).as_numpy("label").tolist() == [4, 5, 4]
        ids = triton.InferInput("user_id", [3], "INT64")
        ids.set_data_from_numpy(np.full(3, 42, dtype=np.int64))
        assert client.infer("strict", [x, ids]).as_numpy("label").tolist() == [4, 4, 4]
        score = triton.InferInput("score", [3], "FP32")
        score.set_data_from_numpy(np.full(3, 6.0, dtype=np.float32))
        assert client.infer("strict", [score, x]).as_numpy("label").tolist() == [6, 6, 6]
        assert client.infer("strict", [score, ids, x]).as_numpy("label").tolist() == [6, 6, 6]


async def test_what_is_missing_is_named(mesh: Mesh) -> None:
    with pytest.raises(MeshError) as caught:
        await mesh.predict("strict", {"user_id": "nobody", "x": 0.0})
    assert caught.value.reason is Reason.FEATURE_MISSING
    assert dict(caught.value.metadata) | {"entity": "user_id=nobody", "view": "stats", "feature": "score"} == dict(
        caught.value.metadata
    )
    with pytest.raises(MeshError, match=r"instances\[1\].user_id is missing") as caught:
        await mesh.predict("strict", {"user_id": "warm", "x": 0.0}, {"x": 0.0})
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    with triton.InferenceServerClient(mesh.address) as client:
        x = triton.InferInput("x", [1], "FP32")
        x.set_data_from_numpy(np.zeros(1, dtype=np.float32))
        with pytest.raises(triton.InferenceServerException, match=r"rows\[0\].user_id is missing"):
            client.infer("strict", [x])
    assert await mesh.predict("lenient", {"user_id": "nobody", "x": 0.0}) == ["9"]
    assert await mesh.metric('model_feature_gaps_total{model="lenient",outcome="defaults"') == 1
    assert await mesh.metric('model_feature_rows_total{model="strict",outcome="absent"') == 1


async def test_a_store_that_dies_and_one_that_stands_still_are_never_waited_for(mesh: Mesh) -> None:
    mesh.put("42", 4.0)
    with standing_still(mesh.valkey.pid):
        # The default comes at the deadline at the latest, and at once when the connection is given up.
        for _ in range(20):
            assert await mesh.predict("lenient", {"user_id": 42, "x": 0.0}) == ["9"]
        with pytest.raises(MeshError) as caught:
            await mesh.predict("strict", {"user_id": 42, "x": 0.0})
        assert caught.value.reason is Reason.FEATURE_STORE_UNAVAILABLE
        assert caught.value.retry_after_s == 0.25

    async def back() -> bool:
        return await mesh.predict("lenient", {"user_id": 42, "x": 0.0}) == ["4"]

    await eventually(back, what="the probe finds it back")
    os.kill(mesh.valkey.pid, signal.SIGKILL)
    await mesh.valkey.wait()
    for _ in range(20):
        assert await mesh.predict("lenient", {"user_id": 42, "x": 0.0}) == ["9"]
    with pytest.raises(MeshError) as caught:
        await mesh.predict("strict", {"user_id": 42, "x": 0.0})
    assert caught.value.reason is Reason.FEATURE_STORE_UNAVAILABLE


async def test_versions_without_views_take_no_part(mesh: Mesh) -> None:
    assert await mesh.predict("digits", {"X": [3.0] + [0.0] * 63}) == ["3"]
    with pytest.raises(MeshError, match="user_id is no feature"):
        await mesh.predict("digits", {"X": [3.0] + [0.0] * 63, "user_id": 42})
    assert await mesh.metric('model_feature_rows_total{model="digits"') == 0
