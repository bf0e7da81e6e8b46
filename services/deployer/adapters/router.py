"""The router over gRPC."""

import grpc
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc

from services.common.grpc.identity import HEADER_USER
from services.deployer.domain.deployment import Deployment

_DEADLINE_S = 8.0
"""The router answers within 4 s even where a gateway does not."""


class RouterTraffic:
    """A `TrafficRouter`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._router = router_service_pb2_grpc.RouterServiceStub(channel)

    async def split(self, deployment: Deployment) -> None:
        """Asks the router for the split, under an id of the deployment's own and in the name of who made it."""
        new = deployment.new
        request = router_service_pb2.UpdateTrafficRequest(
            model_name=new.model_name,
            deployment_name=new.deployment_name,
            traffic_split=dict(new.traffic_split),
            reason=f"deployment {new.deployment_name!r} of {new.version} was made with this split",
            request_id=f"deployment-{deployment.deployment_id}",
        )
        metadata = ((HEADER_USER, new.created_by),) if new.created_by else ()
        await self._router.UpdateTraffic(request, timeout=_DEADLINE_S, metadata=metadata)
