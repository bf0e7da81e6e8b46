"""Both directions of a stream's flow control through a gateway that carries the batcher, where it is no last filter."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

from services.router.adapters.envoy import names
from tests.support.carried import APPLICATION, carrying
from tests.support.waiting import eventually

ROWS = 4000
MANY = 450
"""Requests of 1 MB with answers of 0.2 MB: more than all that holds them between a caller and the model."""
RESIDENT_MAX_MB = 300
"""What the process may take beyond what it had: both windows of 24 MB, as much in Envoy, 64 requests in work. MANY
requests and answers are 550 MB."""


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def test_a_caller_who_sends_and_never_reads_is_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "APPLICATION", APPLICATION)
    tensor = pb.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[ROWS, 64])
    data = bytes(ROWS * 64 * 4)
    written = 0
    async with carrying(tmp_path) as gateway, grpc.aio.insecure_channel(gateway.address) as channel:
        call: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(timeout=50)
        before = resident_mb(gateway.process.pid)

        async def write() -> None:
            nonlocal written
            for number in range(MANY):
                request = pb.ModelInferRequest(
                    model_name="digits", id=f"r{number}", inputs=[tensor], raw_input_contents=[data]
                )
                await call.write(request)
                written += 1
            await call.done_writing()

        writing = asyncio.create_task(write(), name="write")
        last, seen = -1, 0

        def still() -> bool:
            nonlocal last, seen
            last, seen = written, seen + 1 if written == last else 0
            return seen >= 15

        await eventually(still, every_s=0.1, what="nothing more is taken")
        assert 0 < written < MANY
        assert resident_mb(gateway.process.pid) - before < RESIDENT_MAX_MB
        async with httpx.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False, timeout=10) as client:
            answer = await client.post("/v1/models/digits/predict", json={"instances": [{"X": [1.0] * 64}]})
        assert answer.status_code == 200, "others are answered meanwhile"
        read = [(await call.read()).infer_response.id for _ in range(MANY)]
        assert read == [f"r{number}" for number in range(MANY)]
        await writing
        assert await call.read() is grpc.aio.EOF
