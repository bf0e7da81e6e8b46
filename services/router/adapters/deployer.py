"""The deployer over gRPC."""

from collections.abc import AsyncIterator

import grpc
from infermesh.deployer.v1 import backend_service_pb2, backend_service_pb2_grpc

from services.router.convert import update_from_proto
from services.router.domain.backends import BackendUpdate


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
