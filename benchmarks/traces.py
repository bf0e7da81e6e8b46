"""Somewhere for traces to go, so that sending them costs what it costs: an OTLP receiver that forgets what it gets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

Context = grpc.aio.ServicerContext[
    trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse
]


class TraceSink(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts spans."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.spans = 0

    async def Export(  # noqa: N802 - the protocol's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Context
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Takes spans."""
        del context
        self.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def trace_sink() -> AsyncIterator[TraceSink]:
    """Runs one on a free port of loopback."""
    server = grpc.aio.server()
    sink = TraceSink(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(sink, server)  # type: ignore[no-untyped-call]
    await server.start()
    try:
        yield sink
    finally:
        await server.stop(None)
