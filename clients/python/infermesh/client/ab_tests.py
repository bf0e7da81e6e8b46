"""A/B tests: versions side by side, each on users of its own, and what can be concluded from it."""

from collections.abc import Iterator, Mapping, Sequence

from infermesh.client.polling import OUTAGE_TIMEOUT_S, PERIOD_S, followed
from infermesh.client.transport import Transport, all_pages, new_request_id
from infermesh.router.v1 import ab_test_pb2, router_service_pb2, router_service_pb2_grpc

ENDED = frozenset({"completed", "stopped", "rolled_back"})
"""The statuses that a test never leaves."""
WATCH_TIMEOUT_S = 90 * 86_400.0
"""How long a test is watched where nothing else is said: as long as one may run."""
_PAGE_SIZE = 200


class AbTests:
    """Tests of versions against each other. A model has one canary or A/B test at a time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = router_service_pb2_grpc.RouterServiceStub(transport.channel)

    def create(
        self,
        model: str,
        name: str,
        versions: Mapping[str, int],
        *,
        duration_days: float = 0.0,
        metrics: Sequence[str] = (),
        rollback_on_error_rate: float = 0.0,
        auto_promote: bool = False,
        sticky_key_header: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> ab_test_pb2.AbTest:
        """Starts a test and returns it.

        `versions` is whole percent by version, adding up to 100; the largest share is the control. It runs for
        `duration_days` (0: 7). `metrics` are "latency", "error_rate", "accuracy" or names that outcomes report, the
        first of which decides who wins (none: latency and error rate). An error rate above `rollback_on_error_rate`, if
        not 0, ends it at once. Each user, told by `sticky_key_header` ("x-user-id"), keeps one version. The same
        `request_id` again is the same test. Raises AB_TEST_EXISTS, ROLLOUT_IN_PROGRESS, VERSION_NOT_DEPLOYED,
        WEIGHTS_INVALID.
        """
        request = router_service_pb2.CreateAbTestRequest(
            model_name=model,
            name=name,
            versions=versions,
            duration_days=duration_days,
            metrics=metrics,
            rollback_on_error_rate=rollback_on_error_rate,
            auto_promote=auto_promote,
            sticky_key_header=sticky_key_header,
            request_id=request_id or new_request_id(),
        )
        return self._transport.call(self._stub.CreateAbTest, request, timeout_s=timeout_s)

    def get(self, model: str, name: str, *, timeout_s: float | None = None) -> ab_test_pb2.AbTest:
        """A test with its results up to now. Raises AB_TEST_NOT_FOUND."""
        request = router_service_pb2.GetAbTestRequest(model_name=model, name=name)
        return self._transport.call(self._stub.GetAbTest, request, timeout_s=timeout_s)

    def list(
        self, model: str, *, status: str = "", limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[ab_test_pb2.AbTest]:
        """The tests of a model, newest first, without their results."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> router_service_pb2.ListAbTestsResponse:
            request = router_service_pb2.ListAbTestsRequest(
                model_name=model, status=status, page_size=size, page_token=token
            )
            return self._transport.call(self._stub.ListAbTests, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.ab_tests, limit=limit)

    def stop(
        self, model: str, name: str, *, etag: str = "", reason: str = "", timeout_s: float | None = None
    ) -> ab_test_pb2.AbTest:
        """Ends a test without a conclusion: the shares before it come back. Raises ROLLOUT_STATE_INVALID."""
        request = router_service_pb2.StopAbTestRequest(model_name=model, name=name, etag=etag, reason=reason)
        return self._transport.call(self._stub.StopAbTest, request, timeout_s=timeout_s)

    def conclude(
        self,
        model: str,
        name: str,
        *,
        promote: str = "",
        etag: str = "",
        reason: str = "",
        timeout_s: float | None = None,
    ) -> ab_test_pb2.AbTest:
        """Ends a test now as if its time were over; `promote` is a version that gets all traffic whatever was shown.

        Raises ROLLOUT_STATE_INVALID, ETAG_MISMATCH.
        """
        request = router_service_pb2.ConcludeAbTestRequest(
            model_name=model, name=name, promote=promote, etag=etag, reason=reason
        )
        return self._transport.call(self._stub.ConcludeAbTest, request, timeout_s=timeout_s)

    def watch(
        self,
        model: str,
        name: str,
        *,
        timeout_s: float = WATCH_TIMEOUT_S,
        period_s: float = PERIOD_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> Iterator[ab_test_pb2.AbTest]:
        """The test as it is, then whenever it or its results change, until it has ended.

        Raises as the watching of a canary does.
        """
        return followed(
            lambda left_s: self.get(model, name, timeout_s=min(left_s, self._transport.timeout_s)),
            ended=lambda test: test.status in ENDED,
            what=f"the A/B test {name} of {model}",
            timeout_s=timeout_s,
            period_s=period_s,
            outage_timeout_s=outage_timeout_s,
        )
