"""Keys of the local mesh: one for its operator, shown once, and passing ones for what the supervisor itself does.

The registry makes them for whoever is on this machine and asks past the gateway. Nothing here writes one down.
"""

from dataclasses import dataclass
from datetime import timedelta

import grpc
from infermesh.registry.v1 import team_service_pb2 as pb
from infermesh.registry.v1 import team_service_pb2_grpc

from services.common.clock import Clock
from services.common.grpc.tls import PeerTls
from services.supervisor.parts.probes import plain_channel
from services.supervisor.process import PartFailedError

_TIMEOUT_S = 10.0
_PASSING = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class OperatorKeys:
    """What the registry at `registry_address` (host:port, on this machine) gives out."""

    registry_address: str
    clock: Clock
    tls: PeerTls | None = None

    async def first(self) -> str | None:
        """The operator's key; None where there has been one before. Raises PartFailedError."""
        return await self._make(pb.CreateOperatorKeyRequest(name="first operator", first_only=True))

    async def another(self, name: str) -> str:
        """One more key of an operator, without an end. Raises PartFailedError."""
        return await self._made(pb.CreateOperatorKeyRequest(name=name))

    async def passing(self, name: str) -> str:
        """A key that ends in a quarter of an hour. Raises PartFailedError."""
        request = pb.CreateOperatorKeyRequest(name=name)
        request.expires_at.FromDatetime(self.clock.now() + _PASSING)
        return await self._made(request)

    async def _made(self, request: pb.CreateOperatorKeyRequest) -> str:
        made = await self._make(request)
        if made is None:
            raise PartFailedError("the registry has made the operator's key before; ask for another one")
        return made

    async def _make(self, request: pb.CreateOperatorKeyRequest) -> str | None:
        async with plain_channel(self.registry_address, self.tls) as channel:
            stub = team_service_pb2_grpc.TeamServiceStub(channel)
            try:
                answer = await stub.CreateOperatorKey(request, timeout=_TIMEOUT_S, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if request.first_only and error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return None
                raise PartFailedError(
                    f"the registry makes no key ({error.details()}); its log says why, and INFERMESH_AUTH=off starts "
                    "a mesh without keys"
                ) from None
        return str(answer.secret)
