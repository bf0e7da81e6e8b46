"""The deployer over gRPC, asked what is deployed."""

from collections.abc import Sequence

import grpc
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc

from services.common.grpc.identity import CLAIM_HEADERS
from services.registry.domain.deletion import Use

_PAGE_SIZE = 1000
_DEADLINE_S = 5.0
_AS_THE_MESH = tuple((header, "") for header in CLAIM_HEADERS.values())
"""In nobody's name: what the caller does not see is deployed all the same."""


class GrpcDeploymentBook:
    """A `DeploymentBook`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._deployer = deployer_service_pb2_grpc.DeployerServiceStub(channel)

    async def uses(self, model_name: str) -> Sequence[Use]:
        """All pages; a deployment uses the version that it should have and the one that it still serves."""
        found: list[Use] = []
        token = ""
        while True:
            request = deployer_service_pb2.ListDeploymentsRequest(
                model_name=model_name, page_size=_PAGE_SIZE, page_token=token
            )
            page = await self._deployer.ListDeployments(request, metadata=_AS_THE_MESH, timeout=_DEADLINE_S)
            for one in page.deployments:
                versions = {one.version, one.served_version} - {""}
                found.extend(Use(one.deployment_name, version) for version in sorted(versions))
            token = page.next_page_token
            if not token:
                return found
