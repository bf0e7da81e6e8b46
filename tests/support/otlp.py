"""A receiver of OpenTelemetry's traces, over gRPC and over HTTP, for a mesh in other processes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc
import orjson
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Seen:
    """What tests look at of a span. Ids as hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: Sequence[tuple[str, str]] = ()
    """Trace and span ids."""


class SpanReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as any backend does."""

    def __init__(self) -> None:
        self.address = ""
        """host:port that it listens on for gRPC."""
        self.url = ""
        """Where it takes them over HTTP."""
        self._spans: list[Seen] = []

    def Export(self, request: Any, context: Any) -> Any:
        """Some spans, as protobuf."""
        self._spans += [
            Seen(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def take(self, body: Any) -> None:
        """Some spans, as OTLP's JSON, whose ids are hexadecimal."""
        self._spans += [
            Seen(span["name"], span["traceId"], span["spanId"], span.get("parentSpanId", ""))
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def of(self, trace_id: str) -> Sequence[Seen]:
        """The spans of a trace that came so far."""
        return [span for span in list(self._spans) if span.trace_id == trace_id]


@contextmanager
def receiving_spans() -> Iterator[SpanReceiver]:
    """A receiver on ports of its own."""
    receiver, server = SpanReceiver(), grpc.server(ThreadPoolExecutor(max_workers=2))
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(receiver, server)
    receiver.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    web = ThreadingHTTPServer(("127.0.0.1", 0), _taking(receiver))
    receiver.url = f"http://127.0.0.1:{web.server_port}/v1/traces"
    thread = Thread(target=web.serve_forever, name="spans over HTTP")
    server.start()
    thread.start()
    try:
        yield receiver
    finally:
        web.shutdown()
        thread.join()
        web.server_close()
        server.stop(None).wait()


def _taking(receiver: SpanReceiver) -> type[BaseHTTPRequestHandler]:
    class Taking(BaseHTTPRequestHandler):
        """Some spans over HTTP, as protobuf or JSON."""

        def do_POST(self) -> None:
            """Takes them."""
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-type"] == "application/json":
                receiver.take(orjson.loads(body))
            else:
                receiver.Export(trace_service_pb2.ExportTraceServiceRequest.FromString(body), None)
            self.send_response(200)
            self.send_header("content-type", self.headers["content-type"])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Taking
