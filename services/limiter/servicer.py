"""Envoy's rate limit service protocol over the limiter. What no rule of ours asks is let through."""

from typing import Any

import grpc
from google.protobuf import duration_pb2
from meshxds.envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from meshxds.envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc

from services.limiter.domain.buckets import Decision, Limit
from services.limiter.engines.limits import Limiter

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
_Response = rls_pb2.RateLimitResponse
_UNITS = ((1.0, _Response.RateLimit.SECOND), (60.0, _Response.RateLimit.MINUTE), (3600.0, _Response.RateLimit.HOUR))


class RateLimitServicer(rls_pb2_grpc.RateLimitServiceServicer):
    """Answers gateways."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def ShouldRateLimit(
        self, request: rls_pb2.RateLimitRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> rls_pb2.RateLimitResponse:
        """Whether a call is let through. It is where each of its descriptors lets it."""
        statuses = [await self._judged(descriptor, request.hits_addend) for descriptor in request.descriptors]
        over = any(status.code == _Response.OVER_LIMIT for status in statuses)
        return _Response(overall_code=_Response.OVER_LIMIT if over else _Response.OK, statuses=statuses)

    async def _judged(
        self, descriptor: ratelimit_pb2.RateLimitDescriptor, hits: int
    ) -> rls_pb2.RateLimitResponse.DescriptorStatus:
        if len(descriptor.entries) != 1:
            return _Response.DescriptorStatus(code=_Response.OK)
        kind, name = descriptor.entries[0].key, descriptor.entries[0].value
        decision = await self._limiter.judge(kind, name, max(1, hits))
        limit = self._limiter.limits.of(kind, name)
        if decision is None or limit is None:
            return _Response.DescriptorStatus(code=_Response.OK)
        return _status(kind, limit, decision)


def _status(kind: str, limit: Limit, decision: Decision) -> rls_pb2.RateLimitResponse.DescriptorStatus:
    wait = duration_pb2.Duration()
    wait.FromNanoseconds(int(decision.retry_after_s * 1e9))
    requests, unit = _shown(limit.rate)
    return _Response.DescriptorStatus(
        code=_Response.OK if decision.allowed else _Response.OVER_LIMIT,
        current_limit=_Response.RateLimit(name=kind, requests_per_unit=requests, unit=unit),
        duration_until_reset=wait,
    )


def _shown(rate: float) -> "tuple[int, rls_pb2.RateLimitResponse.RateLimit.Unit]":
    """The protocol knows whole numbers by the second, minute or hour alone."""
    seconds, unit = next(((s, u) for s, u in _UNITS if rate * s >= 1), _UNITS[-1])
    return max(1, round(rate * seconds)), unit
