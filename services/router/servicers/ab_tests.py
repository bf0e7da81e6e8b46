"""The calls on A/B tests."""

from typing import Any

import grpc
from infermesh.router.v1 import ab_test_pb2, router_service_pb2, router_service_pb2_grpc

from services.common.grpc.identity import current_identity
from services.router.convert_ab_tests import ab_test_call_from_proto, ab_test_to_proto, ab_test_wish_from_proto
from services.router.engines.ab_tests import AbTests
from services.router.engines.changing import Call

_Context = grpc.aio.ServicerContext[Any, Any]


class AbTestCalls(router_service_pb2_grpc.RouterServiceServicer):
    """Part of RouterService."""

    def __init__(self, ab_tests: AbTests) -> None:
        self._ab_tests = ab_tests

    async def CreateAbTest(
        self, request: router_service_pb2.CreateAbTestRequest, _context: _Context
    ) -> ab_test_pb2.AbTest:
        """Starts a test."""
        call = Call(request.model_name, request_id=request.request_id, actor=current_identity().actor)
        return ab_test_to_proto(await self._ab_tests.create(call, ab_test_wish_from_proto(request)))

    async def GetAbTest(self, request: router_service_pb2.GetAbTestRequest, _context: _Context) -> ab_test_pb2.AbTest:
        """A test with its results."""
        return ab_test_to_proto(await self._ab_tests.get(request.model_name, request.name))

    async def ListAbTests(
        self, request: router_service_pb2.ListAbTestsRequest, _context: _Context
    ) -> router_service_pb2.ListAbTestsResponse:
        """A page of a model's tests."""
        views, token = await self._ab_tests.page(
            request.model_name, status=request.status, page_size=request.page_size, page_token=request.page_token
        )
        return router_service_pb2.ListAbTestsResponse(
            ab_tests=[ab_test_to_proto(view, with_results=False) for view in views], next_page_token=token
        )

    async def StopAbTest(self, request: router_service_pb2.StopAbTestRequest, _context: _Context) -> ab_test_pb2.AbTest:
        """Ends a test without a conclusion."""
        call = ab_test_call_from_proto(request, actor=current_identity().actor)
        return ab_test_to_proto(await self._ab_tests.stop(call, request.name))

    async def ConcludeAbTest(
        self, request: router_service_pb2.ConcludeAbTestRequest, _context: _Context
    ) -> ab_test_pb2.AbTest:
        """Ends a test with a conclusion."""
        call = ab_test_call_from_proto(request, actor=current_identity().actor)
        return ab_test_to_proto(await self._ab_tests.conclude(call, request.name, promote=request.promote))
