"""MonitorService: what is logged; LoggingPolicyService: what batchers hear of it."""

import contextlib
from collections.abc import AsyncIterator

from infermesh.monitor.v1 import (
    inference_log_pb2,
    logging_policy_service_pb2,
    logging_policy_service_pb2_grpc,
    monitor_service_pb2,
    monitor_service_pb2_grpc,
)

from services.common.grpc.interceptors import Context
from services.monitor.convert.logging_policies import policy_from_proto, policy_to_proto
from services.monitor.engines.logging_policies import LoggingPolicies


class PolicyMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `LoggingPolicies`."""

    def __init__(self, policies: LoggingPolicies) -> None:
        self._policies = policies

    async def GetLoggingPolicy(
        self, request: monitor_service_pb2.GetLoggingPolicyRequest, _context: Context
    ) -> inference_log_pb2.LoggingPolicy:
        """What holds."""
        return policy_to_proto(await self._policies.get(request.model_name, request.version))

    async def UpdateLoggingPolicy(
        self, request: monitor_service_pb2.UpdateLoggingPolicyRequest, _context: Context
    ) -> inference_log_pb2.LoggingPolicy:
        """Changes what is logged."""
        sent, expected = policy_from_proto(request.logging_policy)
        return policy_to_proto(await self._policies.update(sent, request.update_mask.paths, expected=expected))


class LoggingPolicyServicer(logging_policy_service_pb2_grpc.LoggingPolicyServiceServicer):
    """Tells batchers."""

    def __init__(self, policies: LoggingPolicies) -> None:
        self._policies = policies

    async def WatchLoggingPolicies(
        self, _request: logging_policy_service_pb2.WatchLoggingPoliciesRequest, _context: Context
    ) -> AsyncIterator[logging_policy_service_pb2.WatchLoggingPoliciesResponse]:
        """All policies, then those that change."""
        async with contextlib.aclosing(self._policies.watch()) as watched:
            async for told in watched:
                yield logging_policy_service_pb2.WatchLoggingPoliciesResponse(
                    policies=[policy_to_proto(policy) for policy in told.policies], full=told.full
                )
