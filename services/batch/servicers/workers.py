"""WorkerService over the engine that knows chunks."""

from typing import Any

import grpc
from infermesh.batch.v1 import worker_service_pb2 as pb
from infermesh.batch.v1 import worker_service_pb2_grpc

from services.batch.convert_work import (
    lease_from_proto,
    lease_to_proto,
    numbers_from_proto,
    pace_to_proto,
    result_from_proto,
    work_to_proto,
)
from services.batch.domain.launched import Bond
from services.batch.engines.shards import Shards
from services.batch.ports import FencedError
from services.common.errors import invalid

_Context = grpc.aio.ServicerContext[Any, Any]
_WAIT_MAX_S = 30.0


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """The calls of workers."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def LeaseChunks(self, request: pb.LeaseChunksRequest, _context: _Context) -> pb.LeaseChunksResponse:
        """Chunks to do."""
        if not request.worker_id:
            raise invalid("worker_id", "", "the worker's name")
        if request.limit < 1:
            raise invalid("limit", request.limit, "at least 1")
        if not 0 <= request.wait_s <= _WAIT_MAX_S:
            raise invalid("wait_s", request.wait_s, f"0 to {_WAIT_MAX_S:g}")
        shift = await self._shards.lease(
            request.worker_id,
            limit=request.limit,
            after=numbers_from_proto(request.after),
            known=numbers_from_proto(request.known),
            begins=request.begins,
            wait_s=request.wait_s,
            bond=Bond(request.job_id, request.attempt) if request.job_id else None,
        )
        return pb.LeaseChunksResponse(
            leases=[lease_to_proto(lease) for lease in shift.leases],
            job=work_to_proto(shift.job) if shift.job is not None else None,
            pace=pace_to_proto(shift.leases[0].job_id, shift.pace) if shift.pace is not None else None,
            renew_every_s=shift.renew_every_s,
            over=shift.over,
        )

    async def RenewChunks(self, request: pb.RenewChunksRequest, _context: _Context) -> pb.RenewChunksResponse:
        """A heartbeat."""
        leases = [lease_from_proto(lease) for lease in request.leases]
        renewal = await self._shards.renew(leases, dict(request.retries), dict(request.heard))
        return pb.RenewChunksResponse(
            held_tokens=sorted(renewal.held),
            paces=[pace_to_proto(job_id, pace) for job_id, pace in renewal.paces.items()],
        )

    async def CompleteChunk(self, request: pb.CompleteChunkRequest, _context: _Context) -> pb.CompleteChunkResponse:
        """A chunk is done."""
        try:
            await self._shards.complete(lease_from_proto(request.lease), result_from_proto(request))
        except FencedError:
            return pb.CompleteChunkResponse(held=False)
        return pb.CompleteChunkResponse(held=True)

    async def FailChunk(self, request: pb.FailChunkRequest, _context: _Context) -> pb.FailChunkResponse:
        """A job fails."""
        lease = lease_from_proto(request.lease)
        try:
            await self._shards.fail(lease, reason=request.error_reason, message=request.error_message)
        except FencedError:
            return pb.FailChunkResponse(held=False)
        return pb.FailChunkResponse(held=True)

    async def GiveBackChunks(self, request: pb.GiveBackChunksRequest, _context: _Context) -> pb.GiveBackChunksResponse:
        """Chunks are free."""
        await self._shards.give_back([lease_from_proto(lease) for lease in request.leases])
        return pb.GiveBackChunksResponse()
