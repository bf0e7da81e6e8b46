"""A monitor that tests play, on a port of its own: it shows what versions did, and takes events of rollouts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import timestamp_pb2
from infermesh.monitor.v1 import (
    evidence_pb2,
    evidence_service_pb2_grpc,
    rollout_event_pb2,
    rollout_event_service_pb2_grpc,
)

from services.common.clock import SystemClock

_Context = grpc.aio.ServicerContext[Any, Any]
_PERIOD_S = 0.1


class PlayedMonitor:
    """It may be stopped and started; what it shows and has taken stays."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: dict[str, tuple[int, int]] = {}
        """Requests and faults of each version, in any window."""
        self.events: list[rollout_event_pb2.RolloutEvent] = []
        self.asked: list[evidence_pb2.WatchEvidenceRequest] = []
        self.refuses: set[str] = set()
        """Kinds of events that it will never take."""
        self.watchers = 0
        """Streams of evidence that are open."""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """It answers."""
        self._server = grpc.aio.server()
        evidence_service_pb2_grpc.add_EvidenceServiceServicer_to_server(_Evidence(self), self._server)
        rollout_event_service_pb2_grpc.add_RolloutEventServiceServicer_to_server(_Events(self), self._server)
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """It is gone, and its streams with it."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    def kinds(self) -> list[str]:
        """Of the events that it has taken."""
        return [event.kind for event in self.events]


class _Evidence(evidence_service_pb2_grpc.EvidenceServiceServicer):
    def __init__(self, monitor: PlayedMonitor) -> None:
        self._monitor = monitor

    async def WatchEvidence(
        self, request: evidence_pb2.WatchEvidenceRequest, _context: _Context
    ) -> AsyncIterator[evidence_pb2.WatchEvidenceResponse]:
        """What is to be shown, as of now."""
        self._monitor.asked.append(request)
        self._monitor.watchers += 1
        try:
            while True:
                yield self._answer(request)
                await asyncio.sleep(_PERIOD_S)
        finally:
            self._monitor.watchers -= 1

    def _answer(self, request: evidence_pb2.WatchEvidenceRequest) -> evidence_pb2.WatchEvidenceResponse:
        now = timestamp_pb2.Timestamp()
        now.FromDatetime(SystemClock().now())
        figures = {version: self._monitor.seen.get(version, (0, 0)) for version in request.versions}
        return evidence_pb2.WatchEvidenceResponse(
            window_start=request.start_time,
            window_end=now,
            versions=[
                evidence_pb2.VersionEvidence(version=version, request_count=requests, fault_count=faults)
                for version, (requests, faults) in figures.items()
            ],
        )


class _Events(rollout_event_service_pb2_grpc.RolloutEventServiceServicer):
    def __init__(self, monitor: PlayedMonitor) -> None:
        self._monitor = monitor

    async def ReportEvents(
        self, request: rollout_event_pb2.ReportEventsRequest, context: _Context
    ) -> rollout_event_pb2.ReportEventsResponse:
        """Takes each once."""
        if any(event.kind in self._monitor.refuses for event in request.events):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an event that cannot be")
        known = {event.event_id for event in self._monitor.events}
        self._monitor.events += [event for event in request.events if event.event_id not in known]
        return rollout_event_pb2.ReportEventsResponse()
