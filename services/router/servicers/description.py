"""RouterService's call that describes the REST API."""

from typing import Any

import grpc
from google.api import httpbody_pb2
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class DescriptionCalls(router_service_pb2_grpc.RouterServiceServicer):
    """What the API is, for everybody."""

    def __init__(self, document: bytes) -> None:
        self._document = document

    async def GetApiDescription(
        self, _request: router_service_pb2.GetApiDescriptionRequest, _context: _Context
    ) -> httpbody_pb2.HttpBody:
        """The OpenAPI document."""
        return httpbody_pb2.HttpBody(content_type="application/json", data=self._document)
