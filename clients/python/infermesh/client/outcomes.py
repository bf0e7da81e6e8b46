"""Outcomes: what became of predictions, reported by the id of their request."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice

from google.protobuf.struct_pb2 import Value
from infermesh.client.metrics import timestamp
from infermesh.client.transport import Transport, all_pages
from infermesh.monitor.v1 import monitor_service_pb2, monitor_service_pb2_grpc, outcome_pb2

BATCH_SIZE = 1000
"""How many outcomes one call carries: well under the 10,000 that the mesh takes at once, so that each is quick."""
_PAGE_SIZE = 200

Truth = str | float | bool
"""What was true: the name of a class, a number, yes or no."""


class Outcomes:
    """Ground truth and business metrics of predictions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def report(
        self,
        request_id: str,
        *,
        truth: Truth | None = None,
        metrics: Mapping[str, float] | None = None,
        instance: int = 0,
        observed: datetime | None = None,
        timeout_s: float | None = None,
    ) -> outcome_pb2.Outcome:
        """Reports what became of one prediction, also before the prediction log has it; again, it replaces the first.

        `truth` is the class's name for a classifier, the number for a regressor; `metrics` are for instance
        {"ctr": 1}; `instance` is the place of the row in its request, from 0; `observed` defaults to now. The answer
        names the model and version that predicted, where they are known yet.
        """
        made = outcome(request_id, truth=truth, metrics=metrics, instance=instance, observed=observed)
        request = monitor_service_pb2.ReportOutcomeRequest(outcome=made)
        return self._transport.call(self._stub.ReportOutcome, request, timeout_s=timeout_s)

    def report_many(
        self,
        outcomes: Iterable[outcome_pb2.Outcome],
        *,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int], None] | None = None,
        timeout_s: float | None = None,
    ) -> monitor_service_pb2.ReportOutcomesResponse:
        """Reports outcomes in calls of `batch_size`, and returns how many were taken; "unmatched" are those whose
        request the prediction log does not know yet.

        `progress` is told after each call how many were taken so far. A call is taken whole or not at all; where one
        fails, what was taken before it stays, and to report all of them again changes nothing.
        """
        total = monitor_service_pb2.ReportOutcomesResponse()
        left = iter(outcomes)
        while batch := list(islice(left, batch_size)):
            request = monitor_service_pb2.ReportOutcomesRequest(outcomes=batch)
            answer = self._transport.call(self._stub.ReportOutcomes, request, timeout_s=timeout_s)
            total.accepted_count += answer.accepted_count
            total.unmatched_count += answer.unmatched_count
            if progress is not None:
                progress(total.accepted_count)
        return total

    def list(
        self, request_id: str, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[outcome_pb2.Outcome]:
        """The outcomes that were reported for a request, in the order of its instances."""

        def fetch(token: str) -> monitor_service_pb2.ListOutcomesResponse:
            request = monitor_service_pb2.ListOutcomesRequest(
                request_id=request_id, page_size=_PAGE_SIZE, page_token=token
            )
            return self._transport.call(self._stub.ListOutcomes, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.outcomes, limit=limit)


def outcome(
    request_id: str,
    *,
    truth: Truth | None = None,
    metrics: Mapping[str, float] | None = None,
    instance: int = 0,
    observed: datetime | None = None,
) -> outcome_pb2.Outcome:
    """An outcome for `report_many`; see `Outcomes.report`. Raises ValueError for a time without a zone."""
    return outcome_pb2.Outcome(
        request_id=request_id,
        instance_index=instance,
        ground_truth=None if truth is None else _value(truth),
        metrics=metrics,
        observed_time=timestamp(observed),
    )


def _value(truth: Truth) -> Value:
    if isinstance(truth, bool):
        return Value(bool_value=truth)
    return Value(string_value=truth) if isinstance(truth, str) else Value(number_value=truth)
