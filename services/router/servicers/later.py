"""What the contract has and the router cannot do yet: refused with what to do instead, never accepted and ignored."""

from typing import Any

import grpc
from infermesh.router.v1 import ab_test_pb2, router_service_pb2, router_service_pb2_grpc

from services.common.errors import MeshError, Reason

_Context = grpc.aio.ServicerContext[Any, Any]
_NO_AB_TEST = (
    'A/B tests are not built yet; split the traffic with routing_strategy "sticky" and compare the versions with '
    "GET /v1/models/{model_name}/metrics/versions"
)


class LaterServicer(router_service_pb2_grpc.RouterServiceServicer):
    """The calls that come later."""

    async def CreateAbTest(
        self, _request: router_service_pb2.CreateAbTestRequest, _context: _Context
    ) -> ab_test_pb2.AbTest:
        """Not built yet."""
        raise MeshError(Reason.NOT_IMPLEMENTED, _NO_AB_TEST)

    async def GetAbTest(self, _request: router_service_pb2.GetAbTestRequest, _context: _Context) -> ab_test_pb2.AbTest:
        """Not built yet."""
        raise MeshError(Reason.NOT_IMPLEMENTED, _NO_AB_TEST)

    async def ListAbTests(
        self, _request: router_service_pb2.ListAbTestsRequest, _context: _Context
    ) -> router_service_pb2.ListAbTestsResponse:
        """Not built yet."""
        raise MeshError(Reason.NOT_IMPLEMENTED, _NO_AB_TEST)

    async def StopAbTest(
        self, _request: router_service_pb2.StopAbTestRequest, _context: _Context
    ) -> ab_test_pb2.AbTest:
        """Not built yet."""
        raise MeshError(Reason.NOT_IMPLEMENTED, _NO_AB_TEST)

    async def ConcludeAbTest(
        self, _request: router_service_pb2.ConcludeAbTestRequest, _context: _Context
    ) -> ab_test_pb2.AbTest:
        """Not built yet."""
        raise MeshError(Reason.NOT_IMPLEMENTED, _NO_AB_TEST)
