"""Keys at a gateway that carries its batcher: they come and go, and the batcher in it does not notice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from infermesh.prediction.v1 import prediction_service_pb2_grpc

from services.router.adapters.envoy import names
from services.router.domain.access import Callers
from tests.support.batcher_faces_calls import digits_request
from tests.support.carried import APPLICATION, Carrying, carrying
from tests.support.gateway_keys import Signer, bearer, key_set
from tests.support.guarded_calls import refused
from tests.support.waiting import eventually

BODY = {"instances": [{"X": [1.0] * 64}]}
SIGNER = Signer("key-1")
CALLERS = Callers("1", SIGNER.key_set, ("leaver",))


@pytest_asyncio.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Carrying]:
    monkeypatch.setattr(names, "APPLICATION", APPLICATION)
    async with carrying(tmp_path, callers=CALLERS) as here:
        yield here


async def status(gateway: Carrying, path: str = "/v1/models/digits/predict", **headers: str) -> int:
    async with httpx.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=10) as client:
        return (await client.post(path, json=BODY, headers=headers)).status_code


async def taken(gateway: Carrying) -> bool:
    """Whether the gateway goes by what it was told of its callers last."""
    return not await gateway.plane.admitted()


async def test_those_with_a_key_are_answered_and_no_others(gateway: Carrying) -> None:
    good, revoked = bearer(SIGNER.key("k")), bearer(SIGNER.key("leaver"))
    assert [await status(gateway, **headers) for headers in (good, revoked, {})] == [200, 401, 401]
    assert await status(gateway, "/ready") == 200
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = await stub.Predict(digits_request(), metadata=tuple(good.items()), timeout=10)
        assert answer.model_version == "v1.1.0"
        for headers in (revoked, {}):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Predict(digits_request(), metadata=tuple(headers.items()), timeout=10)
            assert refused(failed.value).code == 16


async def test_a_hundred_revocations_under_load_are_not_another_batcher(gateway: Carrying) -> None:
    good = bearer(SIGNER.key("k"))
    statuses: list[int] = []
    stop = asyncio.Event()

    async def predict() -> None:
        async with httpx.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=10) as client:
            while not stop.is_set():
                answer = await client.post("/v1/models/digits/predict", json=BODY, headers=good)
                statuses.append(answer.status_code)

    load = asyncio.create_task(predict(), name="load")
    await eventually(lambda: len(statuses) > 20, what="the load runs")
    heard = len(gateway.router.heard)
    known = CALLERS
    for number in range(100):
        known = replace(known, revoked=(*known.revoked, f"gone-{number}"))
        await gateway.plane.admit(known)
        await eventually(lambda: taken(gateway), what="the gateway has taken it")
    await gateway.plane.admit(replace(known, key_set=key_set(SIGNER, Signer("key-2"))))
    await eventually(lambda: taken(gateway), what="the gateway has taken it")
    seen = len(statuses)
    await eventually(lambda: len(statuses) > seen + 20, what="the load goes on")
    stop.set()
    await load
    assert set(statuses) == {200}
    assert await status(gateway, **bearer(SIGNER.key("gone-99"))) == 401
    # A new batcher would have asked for its table.
    assert len(gateway.router.heard) == heard
