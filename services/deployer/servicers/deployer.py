"""DeployerService over the engines."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2

from services.common.access.book import AccessBook
from services.common.errors import invalid
from services.common.grpc.identity import current_identity
from services.common.page import check_page_size
from services.deployer.convert import (
    change_from_proto,
    condition_to_proto,
    deployment_to_proto,
    event_to_proto,
    new_from_proto,
    scale_change,
    server_to_proto,
    version_from_proto,
)
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.plan import ServerState
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.fleet import Fleet
from services.deployer.engines.memories import Memories

_Context = grpc.aio.ServicerContext[Any, Any]
_DEADLINE_SHAVE_S = 0.1
"""A waiting call answers this long before its caller gives up."""


class DeployerServicer(deployer_service_pb2_grpc.DeployerServiceServicer):
    """The public calls."""

    def __init__(
        self,
        *,
        deployments: Deployments,
        fleet: Fleet,
        catalog: Catalog,
        memories: Memories,
        limits: Mapping[str, float],
        book: AccessBook,
    ) -> None:
        self._deployments = deployments
        self._book = book
        self._fleet = fleet
        self._catalog = catalog
        self._memories = memories
        self._limits = limits

    async def CreateDeployment(
        self, request: deployer_service_pb2.CreateDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Stores the wish."""
        identity = current_identity()
        new = new_from_proto(request, created_by=identity.actor)
        return self._shown(await self._deployments.create(new, any_host=identity.unbounded))

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
            sent.model_name,
            sent.deployment_name,
            etag=sent.etag,
            change=change_from_proto(request),
            version=version_from_proto(request),
            actor=current_identity().actor,
            any_host=current_identity().unbounded,
        )
        return self._shown(changed)

    async def ScaleDeployment(
        self, request: deployer_service_pb2.ScaleDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Changes the number of replicas."""
        if not request.HasField("replicas"):
            raise invalid("replicas", None, "0 to 1000")
        changed = await self._deployments.update(
            request.model_name,
            request.deployment_name,
            etag=request.etag,
            change=scale_change(request.replicas),
            actor=current_identity().actor,
        )
        return self._shown(changed)

    async def DeleteDeployment(
        self, request: deployer_service_pb2.DeleteDeploymentRequest, _context: _Context
    ) -> deployment_pb2.Deployment:
        """Begins the removal."""
        deleted = await self._deployments.delete(
            request.model_name, request.deployment_name, etag=request.etag, actor=current_identity().actor
        )
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
        actor = current_identity().actor
        return self._shown(await self._deployments.restart(request.model_name, request.deployment_name, actor=actor))

    async def ValidateDeployment(
        self, request: deployer_service_pb2.ValidateDeploymentRequest, _context: _Context
    ) -> deployer_service_pb2.ValidateDeploymentResponse:
        """How each check goes."""
        checks = await self._deployments.validate(
            new_from_proto(request.deployment, created_by=current_identity().actor),
            any_host=current_identity().unbounded,
        )
        return deployer_service_pb2.ValidateDeploymentResponse(
            valid=all(check.status for check in checks), checks=[condition_to_proto(check) for check in checks]
        )

    async def ListDeploymentEvents(
        self, request: deployer_service_pb2.ListDeploymentEventsRequest, _context: _Context
    ) -> deployer_service_pb2.ListDeploymentEventsResponse:
        """A page of what happened."""
        events, token = await self._deployments.events(
            request.model_name, request.deployment_name, page_size=request.page_size, page_token=request.page_token
        )
        return deployer_service_pb2.ListDeploymentEventsResponse(
            events=[event_to_proto(event) for event in events], next_page_token=token
        )

    async def ListModelServers(
        self, request: deployer_service_pb2.ListModelServersRequest, _context: _Context
    ) -> deployer_service_pb2.ListModelServersResponse:
        """The pool; it is small, so it fits a page."""
        check_page_size(request.page_size)
        observed = self._fleet.observed
        shown = []
        for name, server in sorted(self._fleet.servers.items()):
            state = observed.get(name, ServerState())
            software = await server.software() if state.up else ""
            message = server_to_proto(server.place, up=state.up, loaded=len(state.ready), software=software)
            memory = self._memories.of_server(name)
            message.memory_bytes = memory.total_bytes if memory is not None else 0.0
            message.memory_limit_bytes = self._limits.get(name, 0.0)
            shown.append(message)
        return deployer_service_pb2.ListModelServersResponse(model_servers=shown)

    def _shown(self, deployment: Deployment) -> deployment_pb2.Deployment:
        previous = deployment.previous_version
        answers = bool(previous) and self._catalog.lists(deployment.new.model_name, previous)
        return deployment_to_proto(deployment, self._fleet.places(deployment), previous_answers=answers)
