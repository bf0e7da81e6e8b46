"""Chunks to do, from a batch service in another process."""

from collections.abc import Mapping, Sequence

import grpc
from infermesh.batch.v1 import worker_service_pb2 as pb
from infermesh.batch.v1 import worker_service_pb2_grpc

from services.batch.convert_work import (
    lease_from_proto,
    lease_to_proto,
    numbers_to_proto,
    pace_from_proto,
    result_to_proto,
    work_from_proto,
)
from services.batch.domain.chunks import ChunkResult
from services.batch.domain.launched import Bond
from services.batch.ports import ChunkLease, FencedError, Renewal, Shift

_WAIT_S = 5.0
_DEADLINE_S = 10.0
_HEARTBEAT_DEADLINE_S = 2.0
"""A heartbeat that is not answered is sent again: a lease lasts for some of them."""


class RemoteWork:
    """A `Work`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = worker_service_pb2_grpc.WorkerServiceStub(channel)

    async def lease(
        self,
        worker: str,
        *,
        limit: int,
        after: Mapping[str, int],
        known: Mapping[str, int],
        begins: bool = False,
        bond: Bond | None = None,
    ) -> Shift:
        """Waits for chunks for some seconds."""
        request = pb.LeaseChunksRequest(
            worker_id=worker,
            limit=limit,
            wait_s=_WAIT_S,
            after=numbers_to_proto(after),
            known=numbers_to_proto(known),
            begins=begins,
            job_id=bond.job_id if bond is not None else "",
            attempt=bond.attempt if bond is not None else 0,
        )
        response = await self._stub.LeaseChunks(request, timeout=_WAIT_S + _DEADLINE_S)
        return Shift(
            [lease_from_proto(lease) for lease in response.leases],
            work_from_proto(response.job) if response.HasField("job") else None,
            pace_from_proto(response.pace) if response.HasField("pace") else None,
            response.renew_every_s,
            over=response.over,
        )

    async def renew(
        self, leases: Sequence[ChunkLease], retries: Mapping[str, int], heard: Mapping[str, bool]
    ) -> Renewal:
        """The heartbeat."""
        request = pb.RenewChunksRequest(
            worker_id=leases[0].owner if leases else "",
            leases=[lease_to_proto(lease) for lease in leases],
            retries=retries,
            heard=heard,
        )
        response = await self._stub.RenewChunks(request, timeout=_HEARTBEAT_DEADLINE_S)
        paces = {pace.job_id: pace_from_proto(pace) for pace in response.paces}
        return Renewal(frozenset(response.held_tokens), paces)

    async def complete(self, lease: ChunkLease, result: ChunkResult) -> None:
        """Records a chunk."""
        response = await self._stub.CompleteChunk(result_to_proto(lease, result), timeout=_DEADLINE_S)
        if not response.held:
            raise FencedError(lease.job_id)

    async def fail(self, lease: ChunkLease, *, reason: str, message: str) -> None:
        """Fails the job."""
        request = pb.FailChunkRequest(lease=lease_to_proto(lease), error_reason=reason, error_message=message)
        response = await self._stub.FailChunk(request, timeout=_DEADLINE_S)
        if not response.held:
            raise FencedError(lease.job_id)

    async def give_back(self, leases: Sequence[ChunkLease]) -> None:
        """Frees chunks."""
        if leases:
            request = pb.GiveBackChunksRequest(leases=[lease_to_proto(lease) for lease in leases])
            await self._stub.GiveBackChunks(request, timeout=_HEARTBEAT_DEADLINE_S)
