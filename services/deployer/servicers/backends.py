"""BackendService, which the router watches, and ActivationService, which batchers will call."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from infermesh.deployer.v1 import (
    activation_service_pb2,
    activation_service_pb2_grpc,
    backend_service_pb2,
    backend_service_pb2_grpc,
)

from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.convert import change_to_proto
from services.deployer.engines.catalog import Catalog

log = get_logger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


class BackendServicer(backend_service_pb2_grpc.BackendServiceServicer):
    """Streams what is published."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def WatchBackends(
        self, request: backend_service_pb2.WatchBackendsRequest, _context: _Context
    ) -> AsyncIterator[backend_service_pb2.WatchBackendsResponse]:
        """All there is, then every change."""
        log.info("watched", watcher=request.watcher_id)
        async for update in self._catalog.watch():
            yield change_to_proto(update.revision, full=update.full, change=update.change)


class ActivationServicer(activation_service_pb2_grpc.ActivationServiceServicer):
    """Everything that is deployed stays loaded for now, so there is nothing to activate."""

    async def ActivateVersion(
        self, _request: activation_service_pb2.ActivateVersionRequest, _context: _Context
    ) -> activation_service_pb2.ActivateVersionResponse:
        """Not built yet."""
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            "versions are not loaded on demand yet; deploy the version and wait until it is active",
        )

    async def ReportDemand(
        self, _request: activation_service_pb2.ReportDemandRequest, _context: _Context
    ) -> activation_service_pb2.ReportDemandResponse:
        """Not built yet."""
        raise MeshError(
            Reason.NOT_IMPLEMENTED, "demand does not move replicas yet; scale deployments by hand with ScaleDeployment"
        )
