"""Traces: W3C trace context in and out; exported by OTLP where an endpoint is set, free where none is."""

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()


class Tracing:
    """The tracer of a process. Without an endpoint every span is a no-op."""

    def __init__(self, *, service: str, instance: str, otlp_endpoint: str) -> None:
        self._provider: TracerProvider | None = None
        if otlp_endpoint:
            resource = Resource.create({"service.name": service, "service.instance.id": instance})
            self._provider = TracerProvider(resource=resource)
            exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=True, timeout=5)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: trace.Tracer = (
            self._provider.get_tracer("infermesh") if self._provider is not None else trace.NoOpTracer()
        )

    @property
    def exports(self) -> bool:
        """Whether spans go anywhere."""
        return self._provider is not None

    async def stop(self) -> None:
        """Sends what is left and closes the exporter."""
        if self._provider is not None:
            self._provider.shutdown()


def extract_context(headers: Mapping[str, str]) -> Context:
    """The caller's trace context out of `traceparent` and `tracestate`."""
    return _propagator.extract(dict(headers))


def inject_context(headers: dict[str, str]) -> None:
    """Adds `traceparent` and `tracestate` of the current span to `headers`."""
    _propagator.inject(headers)
