"""Which parts of the mesh answer, by the standard health service of gRPC, and which batchers there are."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import grpc
from grpc_health.v1 import health_pb2
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Transport, all_pages
from infermesh.router.v1 import receiver_pb2, router_service_pb2, router_service_pb2_grpc

SERVICES: Mapping[str, str] = MappingProxyType(
    {
        "batcher": "infermesh.prediction.v1.PredictionService",
        "registry": "infermesh.registry.v1.RegistryService",
        "deployer": "infermesh.deployer.v1.DeployerService",
        "router": "infermesh.router.v1.RouterService",
        "batch": "infermesh.batch.v1.BatchService",
        "monitor": "infermesh.monitor.v1.MonitorService",
    }
)
"""The parts behind the gateway, by the service that each one answers for. The batcher first: it serves predictions."""
CHECK_TIMEOUT_S = 2.0
_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class PartHealth:
    """What one part said of itself."""

    name: str
    healthy: bool
    explanation: str
    """Why it is not healthy; empty where it is."""


class Health:
    """Asks the parts of the mesh how they are, through the gateway."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ask = transport.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self._router = router_service_pb2_grpc.RouterServiceStub(transport.channel)

    def check(self, *, timeout_s: float = CHECK_TIMEOUT_S) -> list[PartHealth]:
        """Every part's health, asked at the same time. Raises GATEWAY_UNREACHABLE where no gateway answers."""
        self._transport.wait_until_connected(timeout_s)
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            return list(pool.map(lambda item: self._check(*item, timeout_s=timeout_s), SERVICES.items()))

    def batchers(self, *, timeout_s: float = CHECK_TIMEOUT_S) -> list[receiver_pb2.Batcher]:
        """Every batcher that the router knows, those included that are sent to although they are not connected. Raises
        InfermeshError where the router does not say."""

        def fetch(token: str) -> router_service_pb2.ListBatchersResponse:
            request = router_service_pb2.ListBatchersRequest(page_size=_PAGE_SIZE, page_token=token)
            return self._transport.call(self._router.ListBatchers, request, timeout_s=timeout_s)

        return list(all_pages(fetch, lambda page: page.batchers))

    def _check(self, name: str, service: str, *, timeout_s: float) -> PartHealth:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            status = self._transport.call(self._ask, request, timeout_s=timeout_s).status
        except InfermeshError as error:
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                return PartHealth(name, healthy=False, explanation=f"no answer within {timeout_s:g} s")
            return PartHealth(name, healthy=False, explanation=error.message)
        if status == health_pb2.HealthCheckResponse.SERVING:
            return PartHealth(name, healthy=True, explanation="")
        if status == health_pb2.HealthCheckResponse.NOT_SERVING:
            return PartHealth(name, healthy=False, explanation="it is not there, or says that it is not ready")
        return PartHealth(name, healthy=False, explanation=health_pb2.HealthCheckResponse.ServingStatus.Name(status))
