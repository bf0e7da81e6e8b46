"""The deployer over gRPC."""

from collections.abc import AsyncIterator, Sequence

import grpc
from infermesh.deployer.v1 import (
    backend_service_pb2,
    backend_service_pb2_grpc,
    deployer_service_pb2,
    deployer_service_pb2_grpc,
    deployment_pb2,
)

from services.router.convert import update_from_proto
from services.router.domain.backends import BackendUpdate
from services.router.domain.deployments import Deployed, Spec

_PAGE_SIZE = 1000
_WAIT_MAX_S = 300.0
"""The longest that the deployer lets a call wait."""
_DEADLINE_MORE_S = 2.0
"""What a call that waits gets beyond the wait, to say how it ended."""


class DeployerBackendSource:
    """A `BackendSource`."""

    def __init__(self, channel: grpc.aio.Channel, *, watcher_id: str) -> None:
        self._backends = backend_service_pb2_grpc.BackendServiceStub(channel)
        self._watcher_id = watcher_id

    async def watch(self) -> AsyncIterator[BackendUpdate]:
        """All that is ready, then every change."""
        request = backend_service_pb2.WatchBackendsRequest(watcher_id=self._watcher_id)
        async for message in self._backends.WatchBackends(request):
            yield update_from_proto(message)


class GrpcDeployments:
    """A `Deployments`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._deployer = deployer_service_pb2_grpc.DeployerServiceStub(channel)

    async def every(self, model_name: str) -> Sequence[Deployed]:
        """All pages."""
        found: list[Deployed] = []
        token = ""
        while True:
            page = await self._deployer.ListDeployments(
                deployer_service_pb2.ListDeploymentsRequest(
                    model_name=model_name, page_size=_PAGE_SIZE, page_token=token
                )
            )
            found.extend(_deployed(one) for one in page.deployments)
            token = page.next_page_token
            if not token:
                return found

    async def deploy(self, spec: Spec, *, request_id: str) -> None:
        """Asks for it, in the name of the caller."""
        request = deployer_service_pb2.CreateDeploymentRequest.FromString(spec.spec)
        if request.resources.HasField("replicas") and not request.resources.replicas:
            # It was put to rest when it was seen last; now it shall answer.
            request.resources.replicas = 1
        request.model_name, request.version = spec.model_name, spec.version
        request.deployment_name, request.request_id = spec.deployment_name, request_id
        await self._deployer.CreateDeployment(request)

    async def restart(self, model_name: str, deployment_name: str) -> None:
        """Asks for it."""
        await self._deployer.RestartDeployment(
            deployer_service_pb2.RestartDeploymentRequest(model_name=model_name, deployment_name=deployment_name)
        )

    async def wait(self, model_name: str, deployment_name: str, *, timeout_s: float) -> Deployed:
        """Waits there."""
        timeout_s = min(timeout_s, _WAIT_MAX_S)
        request = deployer_service_pb2.WaitDeploymentRequest(
            model_name=model_name, deployment_name=deployment_name, timeout_s=timeout_s
        )
        return _deployed(await self._deployer.WaitDeployment(request, timeout=timeout_s + _DEADLINE_MORE_S))


def _deployed(message: deployment_pb2.Deployment) -> Deployed:
    spec = deployer_service_pb2.CreateDeploymentRequest(
        environment=message.environment, cluster=message.cluster, namespace=message.namespace
    )
    for field in ("resources", "autoscaling", "batching", "serving", "external_backend"):
        if message.HasField(field):
            getattr(spec, field).CopyFrom(getattr(message, field))
    return Deployed(
        model_name=message.model_name,
        deployment_name=message.deployment_name,
        version=message.version,
        status=message.status,
        error_message=message.error_message,
        spec=spec.SerializeToString(deterministic=True),
    )
