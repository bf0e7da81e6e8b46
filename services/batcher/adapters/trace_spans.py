"""OpenTelemetry spans out of finished requests: one for each request, one for each batch, linked to each other.

A batch belongs to no request's trace: it begins one of its own, and says by links whose rows it carried; each request
says by a link which batches it was in.
"""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags

from services.batcher.domain.batch_run import BatchRun
from services.batcher.telemetry.traces import Trace
from services.common.telemetry.tracing import extract_context

HELD_BATCHES_MAX = 2048
"""Batches that wait for more of their members; beyond it the oldest leave early."""
BATCH_PATIENCE_S = 2.0
"""How long after its landing a batch waits for members that are not finished: they may be tried again."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SpanMaker:
    """Makes spans. Not thread-safe; about 60 µs each."""

    def __init__(self, *, service: str, instance: str) -> None:
        self._ids = _Ids()
        self._made = _Made()
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # what comes here was sampled
            resource=Resource.create({"service.name": service, "service.instance.id": instance}),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        provider.add_span_processor(self._made)
        self._tracer = provider.get_tracer("infermesh")
        self._batches: dict[BatchRun, _Batch] = {}

    def add(self, one: Trace, *, epoch_s: float) -> None:
        """Makes the span of a request. `epoch_s` is the wall-clock time at which the monotonic clock was 0."""

        def ns(at_s: float) -> int:
            return int((epoch_s + at_s) * 1e9)

        batches = [self._batch(run, one) for run in one.runs]
        if not one.parent:
            self._ids.trace_id = int.from_bytes(one.trace_id)
        span = self._tracer.start_span(
            "predict",
            context=_parent(one),
            kind=SpanKind.SERVER,
            attributes=_request_attributes(one),
            links=[Link(batch.context) for batch in batches],
            start_time=ns(one.arrived_s),
        )
        if one.queued_s > one.arrived_s:
            span.add_event("queued", timestamp=ns(one.queued_s))
        for run in one.runs:
            span.add_event("sent", {"infermesh.backend": run.backend_id}, ns(run.sent_s))
            told = {"reason": run.failure} if run.failure else {}
            span.add_event("failed" if run.failure else "landed", told, ns(run.landed_s))
        if one.error is not None:
            span.set_status(StatusCode.ERROR, f"{one.error.reason.value}: {one.error.message}")
        span.end(ns(one.ended_s))
        for batch in batches:
            batch.members.append(span.get_span_context())

    def close_batches(self, *, epoch_s: float, landed_before_s: float, most: int) -> bool:
        """Makes the spans of batches that landed before that moment, at most so many. Returns whether it made any."""
        excess = len(self._batches) - HELD_BATCHES_MAX
        due = [run for place, run in enumerate(self._batches) if run.landed_s < landed_before_s or place < excess][
            :most
        ]
        for run in due:
            self._make_batch(run, self._batches.pop(run), epoch_s)
        return bool(due)

    def take(self, most: int) -> Sequence[ReadableSpan]:
        """Spans that are made, at most so many."""
        spans = self._made.spans
        taken, self._made.spans = spans[:most], spans[most:]
        return taken

    def _batch(self, run: BatchRun, member: Trace) -> "_Batch":
        batch = self._batches.get(run)
        if batch is None:
            named = run.context
            context = SpanContext(
                int.from_bytes(named.trace_id) if named is not None else self._ids.generate_trace_id(),
                int.from_bytes(named.span_id) if named is not None else self._ids.generate_span_id(),
                is_remote=False,
                trace_flags=_SAMPLED,
            )
            batch = self._batches[run] = _Batch(context, member.model_name, member.version)
        return batch

    def _make_batch(self, run: BatchRun, batch: "_Batch", epoch_s: float) -> None:
        self._ids.next = batch.context
        span = self._tracer.start_span(
            "batch",
            context=Context(),
            kind=SpanKind.CLIENT,
            attributes={
                "infermesh.model": batch.model_name,
                "infermesh.version": batch.version,
                "infermesh.rows": run.rows,
                "infermesh.requests": run.requests,
                "infermesh.backend": run.backend_id,
                "infermesh.queue_ms": run.oldest_s * 1000,
                "infermesh.backend_ms": run.seconds * 1000,
            },
            links=[Link(member) for member in batch.members],
            start_time=int((epoch_s + run.sent_s) * 1e9),
        )
        if run.failure:
            span.set_status(StatusCode.ERROR, run.failure)
        span.end(int((epoch_s + run.landed_s) * 1e9))


class _Batch:
    __slots__ = ("context", "members", "model_name", "version")

    def __init__(self, context: SpanContext, model_name: str, version: str) -> None:
        self.context = context
        self.members: list[SpanContext] = []
        self.model_name = model_name
        self.version = version


class _Ids(IdGenerator):
    """Random ids, but for a span whose id was given away before it is made."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.next: SpanContext | None = None
        self.trace_id = 0
        """Of the next span that begins a trace, where that was told to others already."""

    def generate_trace_id(self) -> int:
        told, self.trace_id = self.trace_id, 0
        if self.next is not None:
            return self.next.trace_id
        return told or self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        if self.next is None:
            return self._random.generate_span_id()
        span_id, self.next = self.next.span_id, None
        return span_id


class _Made(SpanProcessor):
    """Collects what has ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """One more."""
        self.spans.append(span)


def _parent(one: Trace) -> Context:
    if not one.parent:
        return Context()
    headers = {"traceparent": one.parent.decode("latin-1"), "tracestate": one.state.decode("latin-1")}
    return extract_context(headers)


def _request_attributes(one: Trace) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        "infermesh.model": one.model_name,
        "infermesh.version": one.version,
        "infermesh.rows": one.rows,
        "infermesh.request_id": one.request_id,
    }
    if one.error is not None:
        attributes["error.type"] = one.error.reason.value
        error_id = one.error.metadata.get("error_id")
        if error_id:
            attributes["infermesh.error_id"] = error_id
    elif one.runs:
        last = one.runs[-1]
        attributes |= {
            "infermesh.decode_ms": (one.queued_s - one.arrived_s) * 1000,
            "infermesh.queue_ms": (last.sent_s - one.queued_s) * 1000,
            "infermesh.backend_ms": last.seconds * 1000,
            "infermesh.encode_ms": (one.ended_s - last.landed_s) * 1000,
        }
    return attributes
