"""BatchService over the engines."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import empty_pb2
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc

from services.batch.convert import (
    change_from_proto,
    chunk_to_proto,
    digest_of,
    failed_row_to_proto,
    job_to_proto,
    sample_from_proto,
    sample_to_proto,
    spec_to_proto,
    wish_from_proto,
)
from services.batch.convert_deliveries import DELIVERIES_MAX, delivery_to_proto
from services.batch.convert_schedules import schedule_change, schedule_digest, schedule_from_proto, schedule_to_proto
from services.batch.domain.job import Job
from services.batch.domain.lines import json_lines
from services.batch.domain.wish import draft
from services.batch.engines.jobs import Jobs
from services.batch.engines.sample import Sampler
from services.batch.engines.schedules import Schedules
from services.batch.ports_outbox import JobOutbox
from services.common.access.book import AccessBook, Sight
from services.common.access.decide import model_not_found
from services.common.clock import Clock
from services.common.errors import invalid
from services.common.grpc.identity import current_identity

_Context = grpc.aio.ServicerContext[Any, Any]


class BatchServicer(batch_service_pb2_grpc.BatchServiceServicer):
    """The public calls."""

    def __init__(
        self, *, jobs: Jobs, schedules: Schedules, sampler: Sampler, outbox: JobOutbox, clock: Clock, book: AccessBook
    ) -> None:
        self._jobs = jobs
        self._outbox = outbox
        self._schedules = schedules
        self._book = book
        self._sampler = sampler
        self._clock = clock

    async def CreateBatchJob(
        self, request: batch_service_pb2.CreateBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """Records the wish."""
        identity = current_identity()
        job = await self._jobs.create(
            wish_from_proto(request),
            request_id=request.request_id,
            wish_digest=digest_of(request),
            created_by=identity.actor,
            team=identity.team,
        )
        return self._shown(job)

    async def ValidateBatchJob(
        self, request: batch_service_pb2.CreateBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """The checks alone."""
        return spec_to_proto(await self._jobs.check(wish_from_proto(request)))

    async def SampleBatchJob(
        self, request: batch_service_pb2.SampleBatchJobRequest, _context: _Context
    ) -> batch_service_pb2.SampleBatchJobResponse:
        """The first rows, predicted now."""
        spec = await self._jobs.pin(draft(sample_from_proto(request), writes=False))
        sample = await self._sampler.sample(spec, request.row_count)
        rows = json_lines(sample.table).decode().splitlines()
        return sample_to_proto(sample, spec.version.version, rows)

    async def GetBatchJob(
        self, request: batch_service_pb2.GetBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """One job, and who was told of it."""
        shown = self._shown(await self._jobs.get(request.job_id, self._sight()))
        told = await self._outbox.deliveries(request.job_id, limit=DELIVERIES_MAX)
        shown.deliveries.extend(delivery_to_proto(delivery) for delivery in told)
        return shown

    async def ListBatchJobs(
        self, request: batch_service_pb2.ListBatchJobsRequest, _context: _Context
    ) -> batch_service_pb2.ListBatchJobsResponse:
        """A page of jobs."""
        page = await self._jobs.page(
            model=request.model_name,
            status=request.status,
            labels=list(request.labels),
            schedule_id=request.schedule_id,
            page_size=request.page_size,
            page_token=request.page_token,
            sight=self._sight(),
        )
        return batch_service_pb2.ListBatchJobsResponse(
            jobs=[self._shown(job) for job in page.jobs], next_page_token=page.next_page_token
        )

    async def WatchBatchJob(
        self, request: batch_service_pb2.WatchBatchJobRequest, _context: _Context
    ) -> AsyncIterator[batch_job_pb2.BatchJob]:
        """Streams a job until it has ended."""
        identity = current_identity()
        async for job in self._jobs.watch(request.job_id, lambda: self._book.sight(identity)):
            yield self._shown(job)

    async def UpdateBatchJob(
        self, request: batch_service_pb2.UpdateBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """Changes what is asked of a job."""
        if not request.job.job_id:
            raise invalid("job.job_id", "", "the id of a job")
        change = change_from_proto(request, self._jobs.offices)
        changed = await self._jobs.update(request.job.job_id, request.job.etag, change, self._sight())
        return self._shown(changed)

    async def CancelBatchJob(
        self, request: batch_service_pb2.CancelBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """Stops a job for good."""
        return self._shown(await self._jobs.cancel(request.job_id, self._sight()))

    async def PauseBatchJob(
        self, request: batch_service_pb2.PauseBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """Stops a job for now."""
        return self._shown(await self._jobs.pause(request.job_id, self._sight()))

    async def ResumeBatchJob(
        self, request: batch_service_pb2.ResumeBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """Lets a paused job go on."""
        return self._shown(await self._jobs.resume(request.job_id, self._sight()))

    async def RetryBatchJob(
        self, request: batch_service_pb2.RetryBatchJobRequest, _context: _Context
    ) -> batch_job_pb2.BatchJob:
        """Begins an ended job again."""
        return self._shown(await self._jobs.retry(request.job_id, self._sight()))

    async def DeleteBatchJob(
        self, request: batch_service_pb2.DeleteBatchJobRequest, _context: _Context
    ) -> empty_pb2.Empty:
        """Forgets an ended job."""
        await self._jobs.delete(request.job_id, self._sight())
        return empty_pb2.Empty()

    async def ListFailedRows(
        self, request: batch_service_pb2.ListFailedRowsRequest, _context: _Context
    ) -> batch_service_pb2.ListFailedRowsResponse:
        """A page of failed rows."""
        rows, token = await self._jobs.failed_rows(
            request.job_id, page_size=request.page_size, page_token=request.page_token, sight=self._sight()
        )
        return batch_service_pb2.ListFailedRowsResponse(
            failed_rows=[failed_row_to_proto(row) for row in rows], next_page_token=token
        )

    async def ListBatchChunks(
        self, request: batch_service_pb2.ListBatchChunksRequest, _context: _Context
    ) -> batch_service_pb2.ListBatchChunksResponse:
        """A page of steps."""
        chunks, token = await self._jobs.chunks(
            request.job_id, page_size=request.page_size, page_token=request.page_token, sight=self._sight()
        )
        return batch_service_pb2.ListBatchChunksResponse(
            chunks=[chunk_to_proto(chunk) for chunk in chunks], next_page_token=token
        )

    async def CreateBatchSchedule(
        self, request: batch_service_pb2.CreateBatchScheduleRequest, _context: _Context
    ) -> batch_job_pb2.BatchSchedule:
        """Records a schedule."""
        identity = current_identity()
        schedule = await self._schedules.create(
            schedule_from_proto(request.schedule),
            request_id=request.request_id,
            wish_digest=schedule_digest(request.schedule),
            created_by=identity.actor,
            team=identity.team,
        )
        return schedule_to_proto(schedule)

    async def GetBatchSchedule(
        self, request: batch_service_pb2.GetBatchScheduleRequest, _context: _Context
    ) -> batch_job_pb2.BatchSchedule:
        """One schedule."""
        return schedule_to_proto(await self._schedules.get(request.schedule_id, self._sight()))

    async def ListBatchSchedules(
        self, request: batch_service_pb2.ListBatchSchedulesRequest, _context: _Context
    ) -> batch_service_pb2.ListBatchSchedulesResponse:
        """A page of schedules."""
        found, token = await self._schedules.page(
            page_size=request.page_size, page_token=request.page_token, sight=self._sight()
        )
        return batch_service_pb2.ListBatchSchedulesResponse(
            schedules=[schedule_to_proto(schedule) for schedule in found], next_page_token=token
        )

    async def UpdateBatchSchedule(
        self, request: batch_service_pb2.UpdateBatchScheduleRequest, _context: _Context
    ) -> batch_job_pb2.BatchSchedule:
        """Changes what is asked of a schedule."""
        if not request.schedule.schedule_id:
            raise invalid("schedule.schedule_id", "", "the id of a schedule")
        sight = self._sight()
        await self._schedules.get(request.schedule.schedule_id, sight)
        model = request.schedule.job.model_name
        if model and not sight.shows(model):
            raise model_not_found(model)
        changed = await self._schedules.update(
            request.schedule.schedule_id, request.schedule.etag, schedule_change(request), sight
        )
        return schedule_to_proto(changed)

    async def DeleteBatchSchedule(
        self, request: batch_service_pb2.DeleteBatchScheduleRequest, _context: _Context
    ) -> empty_pb2.Empty:
        """Forgets a schedule."""
        await self._schedules.delete(request.schedule_id, self._sight())
        return empty_pb2.Empty()

    def _sight(self) -> Sight:
        return self._book.sight(current_identity())

    def _shown(self, job: Job) -> batch_job_pb2.BatchJob:
        return job_to_proto(job, self._clock.now())
