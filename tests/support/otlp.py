"""A receiver of OpenTelemetry's traces, over gRPC and over HTTP, for a mesh in other processes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class SpanReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as any backend does."""

    def __init__(self) -> None:
        self.address = ""
        """host:port that it listens on for gRPC."""
        self.url = ""
        """Where it takes them over HTTP."""
        self._spans: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        """Some spans."""
        self._spans += [
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> Sequence[Any]:
        """The spans of that name that came so far."""
        return [span for span in list(self._spans) if span.name == name]

    def of(self, trace_id: str) -> Sequence[Any]:
        """The spans of a trace that came so far."""
        return [span for span in list(self._spans) if span.trace_id.hex() == trace_id]


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
        """Some spans over HTTP, as protobuf."""

        def do_POST(self) -> None:
            """Takes them."""
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.Export(trace_service_pb2.ExportTraceServiceRequest.FromString(body), None)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Taking
