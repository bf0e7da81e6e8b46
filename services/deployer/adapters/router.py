"""The router over gRPC."""

from collections.abc import Collection

import grpc
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc, traffic_pb2

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import HEADER_USER
from services.deployer.domain.deployment import Deployment

_DEADLINE_S = 8.0
"""The router answers within 4 s even where a gateway does not."""
_KNOWS_DEADLINE_S = 1.0
"""A look that waits for nobody, and is had again."""


class RouterTraffic:
    """A `TrafficRouter`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._router = router_service_pb2_grpc.RouterServiceStub(channel)

    async def knows(self, deployment: Deployment) -> bool:
        """Of a model of which nothing is served yet the router knows nothing at all."""
        asked = router_service_pb2.GetTrafficRequest(model_name=deployment.new.model_name)
        try:
            now = await self._router.GetTraffic(asked, timeout=_KNOWS_DEADLINE_S)
        except MeshError as error:
            if error.reason is not Reason.MODEL_NOT_SERVED:
                raise
            return False
        propagated = all(one.status == "True" for one in now.status_conditions if one.type == "Propagated")
        return propagated and deployment.new.version in now.ready_versions

    async def split(self, deployment: Deployment) -> None:
        """Asks the router for the split, under an id of the deployment's own and in the name of who made it."""
        new, asked = deployment.new, deployment.split_generation
        why = "asks for this split" if asked else "was made with this split"
        request = router_service_pb2.UpdateTrafficRequest(
            model_name=new.model_name,
            deployment_name=new.deployment_name,
            traffic_split=dict(new.traffic_split),
            reason=f"deployment {new.deployment_name!r} of {new.version} {why}",
            # Of each wish its own: the same shares may be asked for again later.
            request_id=f"deployment-{deployment.deployment_id}" + (f"-split-{asked}" if asked else ""),
        )
        await self._update(request, new.created_by)

    async def take_over(self, deployment: Deployment, older: Collection[str]) -> str:
        """Reads what holds and changes that; who was quicker is heeded at the next try."""
        new = deployment.new
        asked = router_service_pb2.GetTrafficRequest(model_name=new.model_name)
        now = await self._router.GetTraffic(asked, timeout=_DEADLINE_S)
        request = router_service_pb2.UpdateTrafficRequest(
            model_name=new.model_name,
            deployment_name=new.deployment_name,
            etag=now.etag,
            reason=f"deployment {new.deployment_name!r} went over to {new.version}",
            request_id=f"deployment-{deployment.deployment_id}-{deployment.generation}",
        )
        moved = _moved(now, new.version, older)
        if moved is not None:
            request.traffic_split.update(moved)
        if any(condition.version in older for condition in now.conditions):
            request.conditions.extend(now.conditions)
            for condition in request.conditions:
                condition.version = new.version if condition.version in older else condition.version
        if moved is None and not request.conditions:
            return "no traffic was led to the version before it"
        after = await self._update(request, new.created_by)
        return f"{after.traffic_split.get(new.version, 0)} % of the traffic is its own now"

    async def _update(self, request: router_service_pb2.UpdateTrafficRequest, actor: str) -> traffic_pb2.Traffic:
        metadata = ((HEADER_USER, actor),) if actor else ()
        return await self._router.UpdateTraffic(request, timeout=_DEADLINE_S, metadata=metadata)


def _moved(now: traffic_pb2.Traffic, version: str, older: Collection[str]) -> dict[str, int] | None:
    """The shares with those of the older versions given to `version`; None where they have none."""
    taken = sum(now.traffic_split.get(one, 0) for one in older)
    if not taken:
        return None
    kept = {one: share for one, share in now.traffic_split.items() if one not in older}
    return kept | {version: kept.get(version, 0) + taken}
