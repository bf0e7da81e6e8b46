"""Batch schedules: jobs that are made again and again."""

from collections.abc import Iterator, Sequence

from google.protobuf import field_mask_pb2
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc
from infermesh.client.batch import location
from infermesh.client.transport import Transport, all_pages, new_request_id

_PAGE_SIZE = 200


class Schedules:
    """Schedules of jobs over files: make, list, change and remove them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = batch_service_pb2_grpc.BatchServiceStub(transport.channel)

    def create(
        self,
        name: str,
        cron: str,
        job: batch_job_pb2.BatchJob,
        *,
        time_zone: str = "",
        overlap: str = "",
        paused: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> batch_job_pb2.BatchSchedule:
        """Makes `job` at each moment of a cron expression of five fields in a time zone (default UTC).

        "{date}", "{time}" and "{run}" in the job's URIs stand for the moment and for the number of the run. `overlap`
        says what to do while the run before has not ended: "skip" (default), "queue" or "replace". The same
        `request_id` again is the same schedule; one is made where none is given.
        """
        placed = batch_job_pb2.BatchJob()
        placed.CopyFrom(job)
        placed.input_uri, placed.output_uri = location(job.input_uri), location(job.output_uri)
        schedule = batch_job_pb2.BatchSchedule(
            schedule_name=name, cron=cron, job=placed, time_zone=time_zone, overlap=overlap, paused=paused
        )
        request = batch_service_pb2.CreateBatchScheduleRequest(
            schedule=schedule, request_id=request_id or new_request_id()
        )
        return self._transport.call(self._stub.CreateBatchSchedule, request, timeout_s=timeout_s)

    def get(self, schedule_id: str, *, timeout_s: float | None = None) -> batch_job_pb2.BatchSchedule:
        """One schedule, as it is now."""
        request = batch_service_pb2.GetBatchScheduleRequest(schedule_id=schedule_id)
        return self._transport.call(self._stub.GetBatchSchedule, request, timeout_s=timeout_s)

    def list(
        self, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[batch_job_pb2.BatchSchedule]:
        """Schedules, by name."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> batch_service_pb2.ListBatchSchedulesResponse:
            request = batch_service_pb2.ListBatchSchedulesRequest(page_size=size, page_token=token)
            return self._transport.call(self._stub.ListBatchSchedules, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.schedules, limit=limit)

    def update(
        self, schedule: batch_job_pb2.BatchSchedule, fields: Sequence[str], *, timeout_s: float | None = None
    ) -> batch_job_pb2.BatchSchedule:
        """Takes `fields` of `schedule`: "cron", "time_zone", "job", "overlap", "paused". Raises ETAG_MISMATCH where it
        has an etag and the schedule changed since."""
        request = batch_service_pb2.UpdateBatchScheduleRequest(
            schedule=schedule, update_mask=field_mask_pb2.FieldMask(paths=fields)
        )
        return self._transport.call(self._stub.UpdateBatchSchedule, request, timeout_s=timeout_s)

    def delete(self, schedule_id: str, *, timeout_s: float | None = None) -> None:
        """Removes a schedule; jobs that it made stay."""
        request = batch_service_pb2.DeleteBatchScheduleRequest(schedule_id=schedule_id)
        self._transport.call(self._stub.DeleteBatchSchedule, request, timeout_s=timeout_s)
