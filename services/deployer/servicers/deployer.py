"""DeployerService over the engines."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2

from services.common.access.book import AccessBook
from services.common.errors import MeshError, Reason, invalid
from services.common.grpc.identity import current_identity
from services.common.page import check_page_size
from services.deployer.convert import (
    change_from_proto,
    deployment_to_proto,
    new_from_proto,
    scale_change,
    server_to_proto,
)
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.plan import ServerState
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.reconciler import Reconciler
from services.deployer.ports import ModelServer

_Context = grpc.aio.ServicerContext[Any, Any]
_DEADLINE_SHAVE_S = 0.1
"""A waiting call answers this long before its caller gives up."""


class DeployerServicer(deployer_service_pb2_grpc.DeployerServiceServicer):
    """The public calls."""

    def __init__(
        self,
        *,
        deployments: Deployments,
        reconciler: Reconciler,
        servers: Mapping[str, ModelServer],
        book: AccessBook,
    ) -> None:
        self._deployments = deployments
        self._book = book
        self._reconciler = reconciler
        self._servers = servers
        self._pool: dict[str, Place] = {name: server.place for name, server in servers.items()}

    async def CreateDeployment(
        self, request: deployer_service_pb2.CreateDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Stores the wish."""
        new = new_from_proto(request, created_by=current_identity().actor)
        return self._shown(await self._deployments.create(new))

    async def GetDeployment(
        self, request: deployer_service_pb2.GetDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """One deployment."""
        return self._shown(await self._deployments.get(request.model_name, request.deployment_name))

    async def ListDeployments(
        self, request: deployer_service_pb2.ListDeploymentsRequest, _context: _Context
    ) -> deployer_service_pb2.ListDeploymentsResponse:
        """A page of deployments."""
        page = await self._deployments.page(
            model_name=request.model_name,
            status=request.status,
            environment=request.environment,
            page_size=request.page_size,
            page_token=request.page_token,
            sight=self._book.sight(current_identity()),
        )
        return deployer_service_pb2.ListDeploymentsResponse(
            deployments=[self._shown(deployment) for deployment in page.deployments],
            next_page_token=page.next_page_token,
        )

    async def UpdateDeployment(
        self, request: deployer_service_pb2.UpdateDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Changes the wish."""
        sent = request.deployment
        changed = await self._deployments.update(
            sent.model_name, sent.deployment_name, etag=sent.etag, change=change_from_proto(request)
        )
        return self._shown(changed)

    async def ScaleDeployment(
        self, request: deployer_service_pb2.ScaleDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Changes the number of replicas."""
        if not request.HasField("replicas"):
            raise invalid("replicas", None, "1 to 1000")
        changed = await self._deployments.update(
            request.model_name, request.deployment_name, etag=request.etag, change=scale_change(request.replicas)
        )
        return self._shown(changed)

    async def DeleteDeployment(
        self, request: deployer_service_pb2.DeleteDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Begins the removal."""
        deleted = await self._deployments.delete(request.model_name, request.deployment_name, etag=request.etag)
        return self._shown(deleted)

    async def WaitDeployment(
        self, request: deployer_service_pb2.WaitDeploymentRequest, context: _Context
    ) -> deployment_pb2.Deployment:
        """Waits, within the caller's own deadline."""
        timeout_s = request.timeout_s
        left_s: float | None = context.time_remaining()
        if left_s is not None and timeout_s >= 0:
            timeout_s = min(timeout_s or left_s, max(0.01, left_s - _DEADLINE_SHAVE_S))
        return self._shown(
            await self._deployments.wait(request.model_name, request.deployment_name, timeout_s=timeout_s)
        )

    async def WatchDeployments(
        self, request: deployer_service_pb2.WatchDeploymentsRequest, _context: _Context
    ) -> AsyncIterator[deployer_service_pb2.WatchDeploymentsResponse]:
        """Streams changes."""
        identity = current_identity()
        watched = self._deployments.watch(request.model_name, lambda: self._book.sight(identity))
        async for deployment, removed in watched:
            yield deployer_service_pb2.WatchDeploymentsResponse(deployment=self._shown(deployment), removed=removed)

    async def RestartDeployment(
        self, request: deployer_service_pb2.RestartDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Has it loaded anew."""
        return self._shown(await self._deployments.restart(request.model_name, request.deployment_name))

    async def ValidateDeployment(
        self, _request: deployer_service_pb2.ValidateDeploymentRequest, _context: _Context
    ) -> deployer_service_pb2.ValidateDeploymentResponse:
        """Not built yet."""
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            "deployments cannot be checked without being made yet; create one, its conditions say how each check went",
        )

    async def ListDeploymentEvents(
        self, _request: deployer_service_pb2.ListDeploymentEventsRequest, _context: _Context
    ) -> deployer_service_pb2.ListDeploymentEventsResponse:
        """Not built yet."""
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            "the history of a deployment is not kept yet; its conditions say when each step was last reached",
        )

    async def ListModelServers(
        self, request: deployer_service_pb2.ListModelServersRequest, _context: _Context
    ) -> deployer_service_pb2.ListModelServersResponse:
        """The pool; it is small, so it fits a page."""
        check_page_size(request.page_size)
        observed = self._reconciler.observed
        shown = []
        for name, server in sorted(self._servers.items()):
            state = observed.get(name, ServerState())
            software = await server.software() if state.up else ""
            shown.append(server_to_proto(server.place, up=state.up, loaded=len(state.ready), software=software))
        return deployer_service_pb2.ListModelServersResponse(model_servers=shown)

    def _shown(self, deployment: Deployment) -> deployment_pb2.Deployment:
        return deployment_to_proto(deployment, self._pool)
