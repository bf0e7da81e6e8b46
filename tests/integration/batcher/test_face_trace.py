"""Traces: what a receiver of OpenTelemetry's protocol gets of requests and of the batches that carried them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.supervisor.parts.part import Part
from tests.integration.batcher.test_face_prediction import request
from tests.support.batcher_engine_server import Server
from tests.support.batcher_engine_server import answer as model_answer
from tests.support.batcher_faces_calls import scraped
from tests.support.batcher_faces_process import FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import free_port, running
from tests.support.waiting import eventually

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SAMPLED = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("tracestate", "vendor=1"))
UNSAMPLED = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00"),)
ERROR = 2
LINE = ModelSchema((TensorSpec("x", DataType.INT64),), (TensorSpec("y", DataType.INT64),))


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as any OTLP backend does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[Any] = []

    async def Export(self, request: Any, context: Any) -> Any:
        """Some spans."""
        for resource in request.resource_spans:
            self.resources.append(shown(resource.resource))
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        """The spans of that name, in the order in which they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    """A receiver and its address."""
    receiver, server = Receiver(), grpc.aio.server()
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield receiver, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@dataclass
class Made:
    """A batcher that serves and exports; after its stop `receiver` has everything."""

    receiver: Receiver
    part: Part
    stub: Any


@asynccontextmanager
async def tracing(folder: Path, *, model: Any = None, application: str = "", **settings: object) -> AsyncIterator[Made]:
    """A batcher with a receiver. Its stop sends what is left."""
    router = FakeRouter(full_table(model or served_model("v1.0.0")))
    told = {"application": application} if application else {}
    async with receiving() as (receiver, endpoint), serving(router=router) as neighbours:
        wishes = {"otlp_endpoint": endpoint, "trace_ratio": 0.0, **settings}
        part = batcher_part(folder, router=neighbours, settings=wishes, **told)
        async with running(part), grpc.aio.insecure_channel(f"127.0.0.1:{part.ports['batcher']}") as channel:
            yield Made(receiver, part, prediction_service_pb2_grpc.PredictionServiceStub(channel))


def shown(spoken: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in spoken.attributes}


def ms_of(span: Any) -> float:
    ended_ns, began_ns = span.end_time_unix_nano, span.start_time_unix_nano
    return float(ended_ns - began_ns) / 1e6


async def test_only_what_is_traced_gets_a_span(tmp_path: Path) -> None:
    async with tracing(tmp_path) as made:
        stub = made.stub
        await asyncio.gather(
            stub.Predict(request(1, 2, request_id="mine"), metadata=SAMPLED, timeout=10),
            stub.Predict(request(1), timeout=10),
            stub.Predict(request(1), metadata=UNSAMPLED, timeout=10),
        )
        await eventually(lambda: made.receiver.spans, what="the span was sent while the batcher runs")
    [span] = made.receiver.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE_ID, PARENT_ID, "vendor=1")
    assert shown(span) == {
        "infermesh.model": "digits",
        "infermesh.version": "v1.0.0",
        "infermesh.rows": 2,
        "infermesh.request_id": "mine",
    }
    assert made.receiver.resources[0]["service.name"] == "batcher"


async def test_chance_begins_traces_where_the_caller_says_nothing(tmp_path: Path) -> None:
    async with tracing(tmp_path, trace_ratio=1.0) as made:
        await asyncio.gather(*(made.stub.Predict(request(1), timeout=10) for _ in range(3)))
        await made.stub.Predict(request(1), metadata=UNSAMPLED, timeout=10)
    spans = made.receiver.spans
    assert [span.parent_span_id for span in spans] == [b""] * 3
    assert len({span.trace_id for span in spans}) == 3


async def test_errors_are_told_with_their_reason_and_the_id_that_left(tmp_path: Path) -> None:
    async with tracing(tmp_path) as made:
        for name in ("fail", "crash"):
            call = made.stub.Predict(request(1, parameters={"do": name}), metadata=SAMPLED, timeout=10)
            assert await call.code() is not grpc.StatusCode.OK
    full, crashed = made.receiver.named("predict")
    assert (full.status.code, crashed.status.code) == (ERROR, ERROR)
    assert full.status.message.startswith("QUEUE_FULL: ")
    assert shown(full)["error.type"] == "QUEUE_FULL"
    assert shown(crashed)["error.type"] == "INTERNAL"
    assert shown(crashed)["infermesh.error_id"] in crashed.status.message
    assert "secret" not in str(crashed)


async def test_off_is_off(tmp_path: Path) -> None:
    async with tracing(tmp_path, trace_ratio=1.0, telemetry="off") as made:
        await made.stub.Predict(request(1), metadata=SAMPLED, timeout=10)
        found = await scraped(made.part)
    assert not made.receiver.spans
    assert found["model_requests_total"] == 1
    assert "model_latency_ms_count" not in found


async def test_a_dead_receiver_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    async with tracing(tmp_path, otlp_endpoint=f"127.0.0.1:{free_port()}") as made:
        await made.stub.Predict(request(1), metadata=SAMPLED, timeout=10)

        async def lost() -> bool:
            return (await scraped(made.part))["batcher_trace_dropped_total"] == 1

        await eventually(lost, what="the loss was counted")
        await made.stub.Predict(request(1), metadata=SAMPLED, timeout=10)


@dataclass
class Model:
    """A model server that keeps batches until `go`, those with `held` in them until `let_go`, and refuses those with
    `guilty` in them."""

    server: Server = field(default_factory=Server)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = -1
    guilty: int = -1

    async def behave(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Answers one batch."""
        await self.go.wait()
        rows = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        if self.held in rows:
            await self.let_go.wait()
        if self.guilty in rows:
            body = b'{"error":"no such row"}'
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        else:
            writer.write(model_answer(data))


@asynccontextmanager
async def batching(folder: Path) -> AsyncIterator[tuple[Made, Model]]:
    """A whole batcher with its engine over a model server that is held."""
    model = Model()
    model.server.behave = model.behave
    await model.server.start()
    backend = f"127.0.0.1:{model.server.port}"
    table = served_model("v1.0.0", name="line", schema=LINE, mapping=PredictionMapping("y"), http_address=backend)
    try:
        async with tracing(folder, model=table, application="services.batcher.app:app") as made:
            yield made, model
    finally:
        await model.server.stop()


def line_request(number: int) -> prediction_pb2.PredictRequest:
    feature = instance_pb2.Feature(int_list=instance_pb2.IntList(values=[number]))
    return prediction_pb2.PredictRequest(
        model_name="line", request_id=f"r{number}", instances=[instance_pb2.Instance(features={"x": feature})]
    )


async def waiting(made: Made) -> float:
    return (await scraped(made.part)).get("model_queue_depth", 0)


async def occupied(made: Made) -> list[Any]:
    """Requests that nobody traces, as many as it takes until one has to wait."""
    calls: list[Any] = []
    while not await waiting(made):
        calls.append(made.stub.Predict(line_request(100 + len(calls)), metadata=UNSAMPLED, timeout=20))
        await eventually(lambda: calls[-1].done() or made_began(made, len(calls)), what="the request came in")
    return calls


async def made_began(made: Made, calls: int) -> bool:
    return (await scraped(made.part)).get("model_active_requests", 0) >= calls


async def test_a_batch_is_linked_to_its_traced_requests(tmp_path: Path) -> None:
    async with batching(tmp_path) as (made, model):
        calls = await occupied(made)
        before = await waiting(made)
        calls += [made.stub.Predict(line_request(number), metadata=SAMPLED, timeout=20) for number in range(3)]
        calls.append(made.stub.Predict(line_request(3), timeout=20))

        async def queued() -> bool:
            return await waiting(made) == before + 4

        await eventually(queued, what="all wait together")
        model.go.set()
        await asyncio.gather(*calls)
    requests, batches = made.receiver.named("predict"), made.receiver.named("batch")
    assert sorted(shown(span)["infermesh.request_id"] for span in requests) == ["r0", "r1", "r2"]
    [batch] = batches
    assert {(link.trace_id, link.span_id) for link in batch.links} == {(one.trace_id, one.span_id) for one in requests}
    assert all(
        (link.trace_id, link.span_id) == (batch.trace_id, batch.span_id) for one in requests for link in one.links
    )
    assert (batch.parent_span_id, batch.trace_id.hex() == TRACE_ID) == (b"", False)
    check_times(shown(batch), requests, calls=before + 4)


def check_times(batch: Mapping[str, Any], requests: list[Any], *, calls: float) -> None:
    assert (batch["infermesh.model"], batch["infermesh.version"]) == ("line", "v1.0.0")
    assert batch["infermesh.backend"] == "triton-0"
    assert batch["infermesh.requests"] == batch["infermesh.rows"] == calls
    for span in requests:
        told = shown(span)
        stages = [told[f"infermesh.{stage}_ms"] for stage in ("decode", "queue", "backend", "encode")]
        assert min(stages) >= 0
        assert abs(sum(stages) - ms_of(span)) < 0.01
        assert told["infermesh.queue_ms"] <= batch["infermesh.queue_ms"] + 1
        assert [event.name for event in span.events] == ["queued", "sent", "landed"]


async def test_every_try_of_a_request_is_a_batch(tmp_path: Path) -> None:
    async with batching(tmp_path) as (made, model):
        model.guilty = 1
        calls = await occupied(made)
        traced = [made.stub.Predict(line_request(number), metadata=SAMPLED, timeout=20) for number in range(2)]

        async def queued() -> bool:
            return await waiting(made) >= 3

        await eventually(queued, what="both wait together")
        model.go.set()
        await asyncio.gather(*calls, traced[0])
        assert await traced[1].code() is not grpc.StatusCode.OK
    by_id = {shown(span)["infermesh.request_id"]: span for span in made.receiver.named("predict")}
    innocent, guilty = by_id["r0"], by_id["r1"]
    batches = {batch.span_id: batch for batch in made.receiver.named("batch")}
    for span in (innocent, guilty):
        assert all((span.span_id in {link.span_id for link in batches[tried.span_id].links}) for tried in span.links)
    failed = {span_id for span_id, batch in batches.items() if batch.status.code == ERROR}
    assert innocent.links[0].span_id in failed
    assert innocent.links[-1].span_id not in failed
    assert {link.span_id for link in guilty.links} <= failed
    assert "no such row" in batches[guilty.links[-1].span_id].status.message
    assert (innocent.status.code, guilty.status.code) == (0, ERROR)
    assert shown(guilty)["error.type"] == "MODEL_FAILED"
