"""Streams through a whole batcher: in the caller's order, held back by who does not read, whole after a half-close."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from tests.integration.batcher.test_face_trace import Made, batching, line_request, tracing
from tests.support.batcher_faces_calls import address_of, digits_request, scraped
from tests.support.waiting import eventually

ROWS = 200
MANY = 2000
"""Requests of `ROWS` rows: some 8 MB. All on the way holds some 3, and the kernel more where the machine is busy."""

WIDE = 4000
UNREAD = 200
"""Requests of 1 MB with answers of 0.2 MB: some 18 MB of answers fill all buffers, and then the batcher stops."""


def large_request(number: int) -> prediction_pb2.PredictRequest:
    feature = instance_pb2.Feature(int_list=instance_pb2.IntList(values=[number]))
    instances = [instance_pb2.Instance(features={"x": feature})] * ROWS
    return prediction_pb2.PredictRequest(model_name="line", request_id=f"r{number}", instances=instances)


@asynccontextmanager
async def streaming(made: Made) -> AsyncIterator[Any]:
    """A stream that is given up at the end, whatever became of it."""
    call = made.stub.StreamPredict(timeout=60)
    try:
        yield call
    finally:
        call.cancel()


async def answered(made: Made) -> float:
    return (await scraped(made.part)).get("model_requests_total", 0)


async def steady(count: Any) -> float:
    """A count once it has stood still for a second."""
    last, seen = -1.0, 0

    async def still() -> bool:
        nonlocal last, seen
        now = await count()
        last, seen = now, seen + 1 if now == last else 0
        return seen >= 10

    await eventually(still, every_s=0.1, what="the count stands still")
    return last


async def ids(call: Any, most: int) -> list[str]:
    """The ids of the next answers, refusals included: what waits long is refused sooner than answered late."""
    answers = [await call.read() for _ in range(most)]
    return [one.request_id for one in answers]


async def test_answers_keep_the_order_of_their_requests_whichever_is_ready_first(tmp_path: Path) -> None:
    async with batching(tmp_path) as (made, model), streaming(made) as call:
        model.held = 0
        await call.write(line_request(0))
        await eventually(lambda: model.server.requests == 1, what="the first batch is held")
        model.go.set()
        for number in (1, 2):
            await call.write(line_request(number))

        async def ready() -> bool:
            return await answered(made) == 2

        await eventually(ready, what="the later two are ready")
        first = asyncio.ensure_future(call.read())
        assert not first.done()
        model.let_go.set()
        assert (await first).response.request_id == "r0"
        assert await ids(call, 2) == ["r1", "r2"]


async def test_what_was_sent_before_a_half_close_is_answered_after_it(tmp_path: Path) -> None:
    async with batching(tmp_path) as (made, model), streaming(made) as call:
        for number in range(5):
            await call.write(line_request(number))
        await call.done_writing()
        model.go.set()
        assert await ids(call, 5) == [f"r{number}" for number in range(5)]
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_without_requests_ends_well(tmp_path: Path) -> None:
    async with batching(tmp_path) as (made, _), streaming(made) as call:
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_model_that_is_slow_holds_the_sender_back(tmp_path: Path) -> None:
    async with batching(tmp_path) as (made, model), streaming(made) as call:
        written = 0

        async def write() -> None:
            nonlocal written
            for number in range(MANY):
                await call.write(large_request(number))
                written += 1
            await call.done_writing()

        async def count() -> float:
            return written

        writing = asyncio.create_task(write(), name="write")
        assert 64 <= await steady(count) < MANY
        model.go.set()
        assert await ids(call, MANY) == [f"r{number}" for number in range(MANY)]
        await writing
        assert await call.read() is grpc.aio.EOF


async def test_a_caller_who_does_not_read_is_not_answered_further(tmp_path: Path) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[WIDE, 64])
    data = bytes(WIDE * 64 * 4)
    async with tracing(tmp_path) as made, grpc.aio.insecure_channel(address_of(made.part)) as channel:
        call: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(timeout=60)

        async def write() -> None:
            for number in range(UNREAD):
                await call.write(
                    pb.ModelInferRequest(
                        model_name="digits", id=f"r{number}", inputs=[tensor], raw_input_contents=[data]
                    )
                )
            await call.done_writing()

        writing = asyncio.create_task(write(), name="write")
        assert 0 < await steady(lambda: answered(made)) < UNREAD
        # Others are answered meanwhile.
        assert (await made.stub.Predict(digits_request(request_id="other"), timeout=10)).request_id == "other"
        read = [(await call.read()).infer_response.id for _ in range(UNREAD)]
        assert read == [f"r{number}" for number in range(UNREAD)]
        await writing
        assert await call.read() is grpc.aio.EOF
