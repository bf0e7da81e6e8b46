"""BackendService, which the router watches, and ActivationService, which batchers call."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from infermesh.deployer.v1 import (
    activation_service_pb2,
    activation_service_pb2_grpc,
    backend_service_pb2,
    backend_service_pb2_grpc,
)

from services.common.telemetry.logging import get_logger
from services.deployer.convert import change_to_proto
from services.deployer.domain.scaling import Load
from services.deployer.engines.activations import Activations
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.demand import Demand

log = get_logger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]
_ACTIVATE_MAX_S = 300.0
_WINDOW_MIN_S = 0.1
_DEADLINE_SHAVE_S = 0.1
"""A waiting call answers this long before its caller gives up."""


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
    """Wakes what sleeps, and hears what is in demand."""

    def __init__(self, activations: Activations, demand: Demand, catalog: Catalog) -> None:
        self._activations = activations
        self._demand = demand
        self._catalog = catalog

    async def ActivateVersion(
        self, request: activation_service_pb2.ActivateVersionRequest, context: _Context
    ) -> activation_service_pb2.ActivateVersionResponse:
        """Returns once the version is loaded."""
        left_s: float | None = context.time_remaining()
        timeout_s = _ACTIVATE_MAX_S if left_s is None else min(_ACTIVATE_MAX_S, left_s - _DEADLINE_SHAVE_S)
        made = await self._activations.activate(request.model_name, request.version, timeout_s=timeout_s)
        return activation_service_pb2.ActivateVersionResponse(revision=made.revision, load_time_ms=made.load_time_ms)

    async def ReportDemand(
        self, request: activation_service_pb2.ReportDemandRequest, _context: _Context
    ) -> activation_service_pb2.ReportDemandResponse:
        """Notes it. What is asked for and sleeps is woken: that batcher has not heard, or cannot, that it sleeps."""
        window_s = max(request.window_s, _WINDOW_MIN_S)
        loads = {
            (one.model_name, one.version): Load(one.requests / window_s, one.in_flight, one.queued, one.latency_p95_ms)
            for one in request.demands
        }
        self._demand.report(request.batcher_id, window_s, loads)
        for name in loads:
            if self._catalog.sleeps(*name):
                self._demand.want(name)
        return activation_service_pb2.ReportDemandResponse()
