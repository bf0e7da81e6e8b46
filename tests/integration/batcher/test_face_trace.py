"""Traces: a request that is traced gets its span, with its parent, and others get none."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
from infermesh.prediction.v1 import prediction_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.integration.batcher.test_face_prediction import request
from tests.support.batcher_faces_process import FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as any OTLP backend does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    async def Export(self, request: Any, context: Any) -> Any:
        """Some spans."""
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_only_what_is_traced_gets_a_span(tmp_path: Path) -> None:
    receiver, server = Receiver(), grpc.aio.server()
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with serving(router=FakeRouter(full_table(served_model("v1.0.0")))) as router:
        part = batcher_part(tmp_path, router=router, settings={"otlp_endpoint": f"127.0.0.1:{port}"})
        address = f"127.0.0.1:{part.ports['batcher']}"
        async with running(part), grpc.aio.insecure_channel(address) as channel:
            stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            parent = f"00-{TRACE_ID}-{PARENT_ID}-01"
            await asyncio.gather(
                stub.Predict(request(1, 2, request_id="mine"), metadata=(("traceparent", parent),), timeout=10),
                stub.Predict(request(1), timeout=10),
                stub.Predict(request(1), metadata=(("traceparent", f"{parent[:-1]}0"),), timeout=10),
            )
        # Its stop sends what is left.
        [span] = receiver.spans
    await server.stop(None)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    shown = {item.key: item.value.string_value or item.value.int_value for item in span.attributes}
    assert shown == {
        "infermesh.model": "digits",
        "infermesh.version": "v1.0.0",
        "infermesh.rows": 2,
        "infermesh.request_id": "mine",
    }
