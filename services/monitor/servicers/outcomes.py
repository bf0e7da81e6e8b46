"""MonitorService: what became of predictions."""

from dataclasses import replace

from infermesh.monitor.v1 import monitor_service_pb2, monitor_service_pb2_grpc, outcome_pb2

from services.common.access.book import AccessBook, Sight
from services.common.grpc.identity import current_identity
from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_number_token, encode_page_token
from services.monitor.convert.outcomes import outcome_from_proto, outcome_to_proto
from services.monitor.domain.outcomes import Reporter
from services.monitor.engines.outcomes import Outcomes

_BEFORE_ALL = -1


class OutcomeMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `Outcomes`."""

    def __init__(self, outcomes: Outcomes, book: AccessBook) -> None:
        self._outcomes = outcomes
        self._outcome_book = book

    async def ReportOutcome(
        self, request: monitor_service_pb2.ReportOutcomeRequest, _context: Context
    ) -> outcome_pb2.Outcome:
        """What became of one prediction."""
        sent = outcome_from_proto(request.outcome, field="outcome", now=self._outcomes.now())
        sight = self._outcome_sight()
        [outcome] = await self._outcomes.report([replace(sent, reporter=_reporter(sight))], sight)
        return outcome_to_proto(outcome)

    async def ReportOutcomes(
        self, request: monitor_service_pb2.ReportOutcomesRequest, _context: Context
    ) -> monitor_service_pb2.ReportOutcomesResponse:
        """What became of many, all or none."""
        now, sight = self._outcomes.now(), self._outcome_sight()
        sent = [
            replace(outcome_from_proto(outcome, field=f"outcomes[{place}]", now=now), reporter=_reporter(sight))
            for place, outcome in enumerate(request.outcomes)
        ]
        taken = await self._outcomes.report(sent, sight)
        return monitor_service_pb2.ReportOutcomesResponse(
            accepted_count=len(taken), unmatched_count=sum(outcome.predicted is None for outcome in taken)
        )

    async def ListOutcomes(
        self, request: monitor_service_pb2.ListOutcomesRequest, _context: Context
    ) -> monitor_service_pb2.ListOutcomesResponse:
        """The outcomes of a request."""
        size = check_page_size(request.page_size)
        after = decode_number_token(request.page_token, query=request.request_id)
        found = await self._outcomes.find(
            request.request_id,
            after=_BEFORE_ALL if after is None else after,
            limit=size + 1,
            sight=self._outcome_sight(),
        )
        page = found[:size]
        token = (
            encode_page_token(str(page[-1].key.instance_index), query=request.request_id) if len(found) > size else ""
        )
        return monitor_service_pb2.ListOutcomesResponse(
            outcomes=[outcome_to_proto(outcome) for outcome in page], next_page_token=token
        )

    def _outcome_sight(self) -> Sight:
        return self._outcome_book.sight(current_identity())


def _reporter(sight: Sight) -> Reporter:
    """Who reports now. A key's limit is kept with the outcome, for a prediction that is stored after it."""
    return Reporter() if sight.everything else Reporter(sight.team, current_identity().models or None)
