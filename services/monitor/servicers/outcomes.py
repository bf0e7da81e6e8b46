"""MonitorService: what became of predictions."""

from infermesh.monitor.v1 import monitor_service_pb2, monitor_service_pb2_grpc, outcome_pb2

from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.monitor.convert.outcomes import outcome_from_proto, outcome_to_proto
from services.monitor.engines.outcomes import Outcomes

_BEFORE_ALL = -1


class OutcomeMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `Outcomes`."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    async def ReportOutcome(
        self, request: monitor_service_pb2.ReportOutcomeRequest, _context: Context
    ) -> outcome_pb2.Outcome:
        """What became of one prediction."""
        sent = outcome_from_proto(request.outcome, field="outcome", now=self._outcomes.now())
        [outcome] = await self._outcomes.report([sent])
        return outcome_to_proto(outcome)

    async def ReportOutcomes(
        self, request: monitor_service_pb2.ReportOutcomesRequest, _context: Context
    ) -> monitor_service_pb2.ReportOutcomesResponse:
        """What became of many, all or none."""
        now = self._outcomes.now()
        sent = [
            outcome_from_proto(outcome, field=f"outcomes[{place}]", now=now)
            for place, outcome in enumerate(request.outcomes)
        ]
        taken = await self._outcomes.report(sent)
        return monitor_service_pb2.ReportOutcomesResponse(
            accepted_count=len(taken), unmatched_count=sum(outcome.predicted is None for outcome in taken)
        )

    async def ListOutcomes(
        self, request: monitor_service_pb2.ListOutcomesRequest, _context: Context
    ) -> monitor_service_pb2.ListOutcomesResponse:
        """The outcomes of a request."""
        size = check_page_size(request.page_size)
        after = decode_page_token(request.page_token, query=request.request_id)
        found = await self._outcomes.find(
            request.request_id, after=int(after[0]) if after else _BEFORE_ALL, limit=size + 1
        )
        page = found[:size]
        token = (
            encode_page_token(str(page[-1].key.instance_index), query=request.request_id) if len(found) > size else ""
        )
        return monitor_service_pb2.ListOutcomesResponse(
            outcomes=[outcome_to_proto(outcome) for outcome in page], next_page_token=token
        )
