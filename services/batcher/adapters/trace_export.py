"""Sends finished requests' spans to an OTLP receiver, a bounded number a second, off the requests' path.

It runs on the loop in slices of well under a millisecond: a thread of its own would hold the interpreter for 5 ms at a
time and so delay predictions by as much.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from prometheus_client.core import CounterMetricFamily, Metric

from services.batcher.adapters.trace_spans import BATCH_PATIENCE_S, SpanMaker
from services.batcher.telemetry.traces import Traces
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.grpc.channel import open_channel
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_INTERVAL_S = 0.5
_SLICE = 8
"""Spans that are made in one go, and sent in one message: about half a millisecond."""
_DEADLINE_S = 4.0


class TraceExporter:
    """A task of the lifecycle. `requests_per_s_max` bounds what tracing costs, whatever callers ask for."""

    def __init__(
        self,
        traces: Traces,
        *,
        endpoint: str,
        instance: str,
        clock: Clock,
        requests_per_s_max: float,
    ) -> None:
        self.traces = traces
        self._clock = clock
        self._most = max(1, int(requests_per_s_max * _INTERVAL_S))
        self._maker = SpanMaker(service="batcher", instance=instance)
        self._channel = open_channel(endpoint, deadline_s=_DEADLINE_S)
        self._stub: Any = trace_service_pb2_grpc.TraceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._receives = True
        self._ending = False
        self.sent = 0
        """Spans that the receiver took."""
        self.lost = 0
        """Spans that it did not."""

    async def run(self) -> None:
        """Makes and sends spans for as long as the process lives."""
        while True:
            await self._clock.sleep(_INTERVAL_S)
            await self._export(self._most, landed_before_s=self._clock.monotonic() - BATCH_PATIENCE_S)

    async def stop(self) -> None:
        """Sends what is left, all batches too, as long as the receiver takes it, and closes the channel."""
        self._ending = True
        try:
            await self._export(len(self.traces), landed_before_s=self._clock.monotonic() + 1)
        finally:
            await self._channel.close()

    def collect(self) -> Iterator[Metric]:
        """What became of spans."""
        yield CounterMetricFamily("batcher_trace_spans_sent", "Spans that the receiver took.", value=self.sent)
        lost = CounterMetricFamily(
            "batcher_trace_dropped",
            "Requests that were to be traced and came too fast, and spans that the receiver did not take.",
            labels=("what",),
        )
        lost.add_metric(("requests",), self.traces.dropped)
        lost.add_metric(("spans",), self.lost)
        yield lost

    def shown(self) -> dict[str, int]:
        """What became of traces, for the operators' page."""
        return {
            "requests_held": len(self.traces),
            "requests_dropped": self.traces.dropped,
            "spans_sent": self.sent,
            "spans_lost": self.lost,
        }

    async def _export(self, most: int, *, landed_before_s: float) -> None:
        epoch_s = self._clock.now().timestamp() - self._clock.monotonic()
        left = min(most, len(self.traces))
        while left > 0:
            for one in self.traces.take(min(_SLICE, left)):
                self._maker.add(one, epoch_s=epoch_s)
                left -= 1
            await self._send_made()
        while self._maker.close_batches(epoch_s=epoch_s, landed_before_s=landed_before_s, most=_SLICE):
            await self._send_made()

    async def _send_made(self) -> None:
        while spans := self._maker.take(_SLICE):
            await self._send(spans)

    async def _send(self, spans: Sequence[ReadableSpan]) -> None:
        await asyncio.sleep(0)
        if self._ending and not self._receives:
            self.lost += len(spans)
            return
        request = encode_spans(spans)
        try:
            await self._stub.Export(request, timeout=_DEADLINE_S)
        except MeshError as error:
            self.lost += len(spans)
            if self._receives:
                log.warning("traces are lost: their receiver does not take them", error=error.message)
            self._receives = False
        else:
            self.sent += len(spans)
            self._receives = True
