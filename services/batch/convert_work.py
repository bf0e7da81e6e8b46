"""Leases of chunks, and what is said of them, to and from their protos."""

import zlib
from collections.abc import Iterable, Mapping, Sequence

import orjson
from infermesh.batch.v1 import worker_service_pb2 as pb
from pydantic import TypeAdapter

from services.batch.domain.chunks import Chunk, ChunkResult, FailedRow, Part, Plan, PlannedFile
from services.batch.domain.job import JobSpec, Spent
from services.batch.ports import ChunkLease, JobWork, Pace

_SPEC = TypeAdapter(JobSpec)
_FAILED_BYTES_MAX = 256 * 1024 * 1024
"""Uncompressed: twenty thousand rows, the most that a chunk has, are a tenth of it at worst."""


def lease_to_proto(lease: ChunkLease) -> pb.ChunkLease:
    """A lease."""
    return pb.ChunkLease(
        job_id=lease.job_id,
        attempt=lease.attempt,
        chunk=_span(lease.chunk),
        worker_id=lease.owner,
        token=lease.token,
    )


def lease_from_proto(message: pb.ChunkLease) -> ChunkLease:
    """A lease."""
    return ChunkLease(message.job_id, message.attempt, _chunk(message.chunk), message.worker_id, message.token)


def work_to_proto(work: JobWork) -> pb.JobWork:
    """What there is to know of a job."""
    return pb.JobWork(
        job_id=work.job_id,
        attempt=work.attempt,
        spec_json=_SPEC.dump_json(work.spec),
        team=work.team,
        user=work.user,
        fingerprint=work.plan.fingerprint,
        columns=work.plan.columns,
        key_is_integer=work.plan.key_is_integer,
        chunks=[_span(chunk) for chunk in work.plan.chunks],
        files=[
            pb.InputFile(path=one.path, mark=one.mark, first_chunk=one.first_chunk, first_row=one.first_row)
            for one in work.plan.files
        ],
    )


def work_from_proto(message: pb.JobWork) -> JobWork:
    """What there is to know of a job. Raises ValidationError where it is of another release."""
    chunks = tuple(_chunk(span) for span in message.chunks)
    files = tuple(PlannedFile(one.path, one.mark, one.first_chunk, one.first_row) for one in message.files)
    plan = Plan(message.fingerprint, tuple(message.columns), message.key_is_integer, chunks, files)
    spec = _SPEC.validate_json(message.spec_json)
    return JobWork(message.job_id, message.attempt, spec, message.team, message.user, plan)


def pace_to_proto(job_id: str, pace: Pace) -> pb.JobPace:
    """How fast a job may be done."""
    return pb.JobPace(job_id=job_id, batch_size=pace.batch_size, parallelism=pace.parallelism, silent_s=pace.silent_s)


def pace_from_proto(message: pb.JobPace) -> Pace:
    """How fast a job may be done."""
    return Pace(message.batch_size, message.parallelism, message.silent_s)


def numbers_to_proto(numbers: Mapping[str, int]) -> Sequence[pb.JobNumber]:
    """Numbers by job."""
    return [pb.JobNumber(job_id=job_id, number=number) for job_id, number in numbers.items()]


def numbers_from_proto(messages: Iterable[pb.JobNumber]) -> Mapping[str, int]:
    """Numbers by job."""
    return {message.job_id: message.number for message in messages}


def result_to_proto(lease: ChunkLease, result: ChunkResult) -> pb.CompleteChunkRequest:
    """A chunk that is done."""
    rows = b"".join(
        orjson.dumps([row.row_number, row.key, row.reason, row.message], option=orjson.OPT_APPEND_NEWLINE)
        for row in result.failed
    )
    spent = result.spent
    return pb.CompleteChunkRequest(
        lease=lease_to_proto(lease),
        part_name=result.part.name,
        part_bytes=result.part.size_bytes,
        part_rows=result.part.row_count,
        failed_rows_json_zlib=zlib.compress(rows) if rows else b"",
        cost=pb.ChunkCost(
            requests=spent.requests,
            retries=spent.retries,
            latency_ms_sum=spent.latency_ms_sum,
            read_s=spent.read_s,
            predict_s=spent.predict_s,
            write_s=spent.write_s,
        ),
    )


def result_from_proto(message: pb.CompleteChunkRequest) -> ChunkResult:
    """A chunk that is done."""
    cost = message.cost
    spent = Spent(
        requests=cost.requests,
        retries=cost.retries,
        latency_ms_sum=cost.latency_ms_sum,
        read_s=cost.read_s,
        predict_s=cost.predict_s,
        write_s=cost.write_s,
    )
    part = Part(message.part_name, message.part_bytes, message.part_rows)
    return ChunkResult(_chunk(message.lease.chunk), part, _failed(message.failed_rows_json_zlib), spent)


def _failed(packed: bytes) -> Sequence[FailedRow]:
    if not packed:
        return []
    lines = zlib.decompressobj().decompress(packed, _FAILED_BYTES_MAX).splitlines()
    return [FailedRow(*orjson.loads(line)) for line in lines]


def _span(chunk: Chunk) -> pb.ChunkSpan:
    return pb.ChunkSpan(
        index=chunk.index,
        first_row=chunk.first_row,
        row_count=chunk.row_count,
        start_byte=chunk.start,
        stop_byte=chunk.stop,
    )


def _chunk(span: pb.ChunkSpan) -> Chunk:
    return Chunk(span.index, span.first_row, span.row_count, span.start_byte, span.stop_byte)
