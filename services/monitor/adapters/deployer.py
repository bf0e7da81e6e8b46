"""The deployer, as far as alerts are concerned: how deployments are."""

from collections.abc import AsyncIterator
from datetime import UTC

import grpc
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2

from services.common.errors import MeshError, Reason
from services.monitor.domain.deployments import SeenDeployment

_DEADLINE_S = 5.0


class Deployer:
    """A `DeploymentSource` over DeployerService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = deployer_service_pb2_grpc.DeployerServiceStub(channel)

    async def watch(self) -> AsyncIterator[tuple[SeenDeployment, bool]]:
        """All deployments, then those that change, and whether they were removed."""
        async for told in self._stub.WatchDeployments(deployer_service_pb2.WatchDeploymentsRequest()):
            yield _seen(told.deployment), told.removed

    async def get(self, model: str, name: str) -> SeenDeployment | None:
        """One deployment; None where there is none."""
        request = deployer_service_pb2.GetDeploymentRequest(model_name=model, deployment_name=name)
        try:
            return _seen(await self._stub.GetDeployment(request, timeout=_DEADLINE_S))
        except MeshError as error:
            if error.reason in (Reason.DEPLOYMENT_NOT_FOUND, Reason.MODEL_NOT_FOUND):
                return None
            raise


def _seen(message: deployment_pb2.Deployment) -> SeenDeployment:
    return SeenDeployment(
        deployment_id=message.deployment_id,
        model=message.model_name,
        name=message.deployment_name,
        version=message.version,
        served_version=message.served_version,
        status=message.status,
        problem=message.error_message,
        reason=message.error_reason,
        generation=message.generation,
        changed_at=message.updated_at.ToDatetime(UTC),
    )
