"""EvidenceService: what rollouts are judged by."""

import contextlib
from collections.abc import AsyncIterator

from infermesh.monitor.v1 import evidence_pb2, evidence_service_pb2_grpc

from services.common.errors import invalid
from services.common.grpc.interceptors import Context
from services.monitor.convert.evidence import evidence_to_proto
from services.monitor.convert.moments import moment_from_proto
from services.monitor.engines.evidence import EvidenceEngine

_PERIOD_DEFAULT_S = 2
_PERIOD_MAX_S = 60


class EvidenceServicer(evidence_service_pb2_grpc.EvidenceServiceServicer):
    """Translates between messages and `EvidenceEngine`."""

    def __init__(self, evidence: EvidenceEngine) -> None:
        self._evidence = evidence

    async def WatchEvidence(
        self, request: evidence_pb2.WatchEvidenceRequest, _context: Context
    ) -> AsyncIterator[evidence_pb2.WatchEvidenceResponse]:
        """What each version did since a moment, complete each time."""
        period_s = request.period_s or _PERIOD_DEFAULT_S
        if period_s > _PERIOD_MAX_S:
            raise invalid("period_s", period_s, f"1 to {_PERIOD_MAX_S}; 0 means {_PERIOD_DEFAULT_S}")
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        watched = self._evidence.watch(request.model_name, request.versions, start=start, period_s=period_s)
        async with contextlib.aclosing(watched):
            async for evidence in watched:
                yield evidence_to_proto(evidence)
