"""The router's A/B tests over gRPC."""

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.router.v1 import ab_test_pb2, router_service_pb2, router_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.operator.domain.ab_test import AbTestArm, AbTestStanding, AbTestWish
from services.operator.domain.observed import written_moment

_DEADLINE_S = 5.0
_REASON_LENGTH_MAX = 1000


class RouterAbTests:
    """An `AbTests`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._router = router_service_pb2_grpc.RouterServiceStub(channel)

    async def create(self, wish: AbTestWish) -> AbTestStanding:
        """Starts it; the object's uid makes the call safe to repeat."""
        request = router_service_pb2.CreateAbTestRequest(
            model_name=wish.model_name,
            name=wish.name,
            versions=wish.versions,
            duration_days=wish.duration_days,
            metrics=wish.metrics,
            rollback_on_error_rate=wish.rollback_on_error_rate,
            auto_promote=wish.auto_promote,
            sticky_key_header=wish.sticky_key_header,
            request_id=f"abtest-{wish.uid}",
        )
        return _standing(await self._router.CreateAbTest(request, timeout=_DEADLINE_S))

    async def find(self, wish: AbTestWish) -> AbTestStanding | None:
        """How it stands."""
        request = router_service_pb2.GetAbTestRequest(model_name=wish.model_name, name=wish.name)
        try:
            return _standing(await self._router.GetAbTest(request, timeout=_DEADLINE_S))
        except MeshError as error:
            if error.reason is Reason.AB_TEST_NOT_FOUND:
                return None
            raise

    async def stop(self, wish: AbTestWish, *, reason: str) -> AbTestStanding | None:
        """Ends it; one that has ended stays as it is."""
        request = router_service_pb2.StopAbTestRequest(
            model_name=wish.model_name, name=wish.name, reason=reason[:_REASON_LENGTH_MAX]
        )
        try:
            return _standing(await self._router.StopAbTest(request, timeout=_DEADLINE_S))
        except MeshError as error:
            if error.reason is Reason.AB_TEST_NOT_FOUND:
                return None
            if error.reason is Reason.ROLLOUT_STATE_INVALID:
                return await self.find(wish)
            raise


def _standing(said: ab_test_pb2.AbTest) -> AbTestStanding:
    results = said.results
    arms = [
        AbTestArm(
            version=arm.version,
            request_count=int(arm.request_count),
            error_rate=arm.error_rate,
            latency_avg_ms=arm.latency_avg_ms,
            latency_p95_ms=arm.latency_p95_ms,
        )
        for arm in results.arms
    ]
    return AbTestStanding(
        phase=said.status,
        message=said.status_reason,
        start_time=_moment(said.start_time),
        end_time=_moment(said.end_time),
        control=results.control,
        winner=results.winner,
        outcome=results.outcome,
        conclusion=results.conclusion,
        arms=arms,
    )


def _moment(said: Timestamp) -> str:
    return written_moment(said.ToDatetime()) if said.seconds else ""
