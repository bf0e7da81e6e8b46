"""Batch jobs: predictions for every row of a file."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Pacer, Transport, all_pages, new_request_id

ENDED = frozenset({"completed", "failed", "cancelled"})
"""The statuses that a job never leaves."""
WATCH_TIMEOUT_S = 86_400.0
"""How long a job is watched where nothing else is said: as long as a job may run by default."""
OUTAGE_TIMEOUT_S = 60.0
"""How long a watched job may be out of reach before watching fails. Jobs outlive their service; so does watching."""
_PAGE_SIZE = 200
_ROWS_PAGE_SIZE = 1000


class Batch:
    """Jobs over files: submit, watch, list and cancel them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = batch_service_pb2_grpc.BatchServiceStub(transport.channel)

    def submit(
        self,
        model: str,
        source: str | Path,
        target: str | Path,
        *,
        version: str = "",
        name: str = "",
        batch_size: int = 0,
        max_parallelism: int = 0,
        timeout_minutes: int = 0,
        max_failed_fraction: float | None = None,
        reading: batch_job_pb2.InputOptions | None = None,
        writing: batch_job_pb2.OutputOptions | None = None,
        parameters: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        notifications: Sequence[batch_job_pb2.Notification] = (),
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> batch_job_pb2.BatchJob:
        """Makes a job that predicts every row of `source` and writes `target`, and returns at once.

        Both are paths that the batch service reaches, or URIs; a relative path is one of this process's folder. Where a
        number is 0 the service's default holds. Without a version the newest that is not archived is taken, and kept to
        the last row. The same `request_id` again is the same job; one is made where none is given.
        """
        request = batch_service_pb2.CreateBatchJobRequest(
            model_name=model,
            model_version=version,
            input_uri=location(source),
            output_uri=location(target),
            job_name=name,
            batch_size=batch_size,
            max_parallelism=max_parallelism,
            timeout_minutes=timeout_minutes,
            max_failed_fraction=max_failed_fraction,
            input=reading,
            output=writing,
            parameters=parameters,
            labels=labels,
            notifications=notifications,
            request_id=request_id or new_request_id(),
        )
        return self._transport.call(self._stub.CreateBatchJob, request, timeout_s=timeout_s)

    def sample(
        self,
        model: str,
        source: str | Path,
        *,
        version: str = "",
        row_count: int = 0,
        reading: batch_job_pb2.InputOptions | None = None,
        writing: batch_job_pb2.OutputOptions | None = None,
        parameters: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> batch_service_pb2.SampleBatchJobResponse:
        """Predicts the first rows of `source` now and returns what the output would hold of them; writes nothing. At
        most 1000 rows, 32 that are explained; 0 means 100, or 10."""
        request = batch_service_pb2.SampleBatchJobRequest(
            model_name=model,
            model_version=version,
            input_uri=location(source),
            row_count=row_count,
            input=reading,
            output=writing,
            parameters=parameters,
        )
        return self._transport.call(self._stub.SampleBatchJob, request, timeout_s=timeout_s)

    def get(self, job_id: str, *, timeout_s: float | None = None) -> batch_job_pb2.BatchJob:
        """One job, as it is now."""
        request = batch_service_pb2.GetBatchJobRequest(job_id=job_id)
        return self._transport.call(self._stub.GetBatchJob, request, timeout_s=timeout_s)

    def list(
        self,
        *,
        model: str = "",
        status: str = "",
        labels: Sequence[str] = (),
        schedule_id: str = "",
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[batch_job_pb2.BatchJob]:
        """Jobs, newest first; `labels` are "key=value" and must all match."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> batch_service_pb2.ListBatchJobsResponse:
            request = batch_service_pb2.ListBatchJobsRequest(
                model_name=model,
                status=status,
                labels=labels,
                schedule_id=schedule_id,
                page_size=size,
                page_token=token,
            )
            return self._transport.call(self._stub.ListBatchJobs, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.jobs, limit=limit)

    def cancel(self, job_id: str, *, timeout_s: float | None = None) -> batch_job_pb2.BatchJob:
        """Stops a job for good; nothing of its output remains. Raises JOB_STATE_INVALID where it has ended."""
        request = batch_service_pb2.CancelBatchJobRequest(job_id=job_id)
        return self._transport.call(self._stub.CancelBatchJob, request, timeout_s=timeout_s)

    def pause(self, job_id: str, *, timeout_s: float | None = None) -> batch_job_pb2.BatchJob:
        """Stops a job until it is resumed; what is done stays done. Raises JOB_STATE_INVALID where it has ended."""
        request = batch_service_pb2.PauseBatchJobRequest(job_id=job_id)
        return self._transport.call(self._stub.PauseBatchJob, request, timeout_s=timeout_s)

    def resume(self, job_id: str, *, timeout_s: float | None = None) -> batch_job_pb2.BatchJob:
        """Lets a paused job go on. Raises JOB_STATE_INVALID where it has ended."""
        request = batch_service_pb2.ResumeBatchJobRequest(job_id=job_id)
        return self._transport.call(self._stub.ResumeBatchJob, request, timeout_s=timeout_s)

    def retry(self, job_id: str, *, timeout_s: float | None = None) -> batch_job_pb2.BatchJob:
        """Begins a failed or cancelled job again, from where it stopped where it failed. Raises JOB_STATE_INVALID where
        it is neither."""
        request = batch_service_pb2.RetryBatchJobRequest(job_id=job_id)
        return self._transport.call(self._stub.RetryBatchJob, request, timeout_s=timeout_s)

    def change(
        self,
        job_id: str,
        *,
        name: str = "",
        batch_size: int = 0,
        max_parallelism: int = 0,
        timeout_minutes: int = 0,
        max_failed_fraction: float | None = None,
        timeout_s: float | None = None,
    ) -> batch_job_pb2.BatchJob:
        """Changes what is asked of a job; what is 0, empty or None stays. What has begun ends as it began; a job that
        failed or was cancelled goes by it once it is retried. Raises JOB_STATE_INVALID where it is completed."""
        # Without a mask, what is not at its default is what to change.
        job = batch_job_pb2.BatchJob(
            job_id=job_id,
            job_name=name,
            batch_size=batch_size,
            max_parallelism=max_parallelism,
            timeout_minutes=timeout_minutes,
            max_failed_fraction=max_failed_fraction,
        )
        request = batch_service_pb2.UpdateBatchJobRequest(job=job)
        return self._transport.call(self._stub.UpdateBatchJob, request, timeout_s=timeout_s)

    def delete(self, job_id: str, *, timeout_s: float | None = None) -> None:
        """Forgets a job that has ended; its output stays. Raises JOB_STATE_INVALID where it has not."""
        request = batch_service_pb2.DeleteBatchJobRequest(job_id=job_id)
        self._transport.call(self._stub.DeleteBatchJob, request, timeout_s=timeout_s)

    def failed_rows(
        self, job_id: str, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[batch_job_pb2.FailedRow]:
        """The rows that could not be predicted so far, in the input's order, each with its reason."""

        def fetch(token: str) -> batch_service_pb2.ListFailedRowsResponse:
            request = batch_service_pb2.ListFailedRowsRequest(
                job_id=job_id, page_size=_ROWS_PAGE_SIZE, page_token=token
            )
            return self._transport.call(self._stub.ListFailedRows, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.failed_rows, limit=limit)

    def watch(
        self,
        job_id: str,
        *,
        timeout_s: float = WATCH_TIMEOUT_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Iterator[batch_job_pb2.BatchJob]:
        """The job as it is, then whenever it changes, until it has ended; the last one is the ended job.

        A stream that breaks is opened again, so a restart of the service or of the gateway goes unseen, up to
        `outage_timeout_s` seconds. Raises InfermeshError: DEADLINE_EXCEEDED after `timeout_s` seconds; what the first
        call meets, at once.
        """
        deadline = monotonic() + timeout_s
        seen: batch_job_pb2.BatchJob | None = None
        pacer: Pacer | None = None
        while (left_s := deadline - monotonic()) > 0:
            try:
                for job in self._opened(job_id, left_s):
                    pacer = None
                    if job != seen:
                        yield job
                    seen = job
                    if job.status in ENDED:
                        return
                # Whoever is between may end a stream in good order; only an ended job ends the watching.
                error = _broken(job_id)
            except InfermeshError as met:
                error = met
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline - monotonic() <= 0:
                break
            pacer = pacer or Pacer(timeout_s=outage_timeout_s)
            if seen is None or not error.is_interruption or not pacer.pause():
                raise error
        raise _overdue(job_id, seen, timeout_s)

    def wait(self, job_id: str, *, timeout_s: float = WATCH_TIMEOUT_S) -> batch_job_pb2.BatchJob:
        """Returns the job once it has ended, however it did: look at its `status`."""
        *_, last = self.watch(job_id, timeout_s=timeout_s)
        return last

    def _opened(self, job_id: str, timeout_s: float) -> Iterator[batch_job_pb2.BatchJob]:
        request = batch_service_pb2.WatchBatchJobRequest(job_id=job_id)
        return self._transport.stream(self._stub.WatchBatchJob, request, timeout_s=timeout_s)


def location(place: str | Path) -> str:
    """A URI as it is; a path as an absolute one, because the service has another working folder."""
    text = str(place)
    return text if "://" in text or not text else str(Path(text).expanduser().absolute())


def _broken(job_id: str) -> InfermeshError:
    return InfermeshError(
        f"the mesh stopped telling of job {job_id} before it had ended",
        code=grpc.StatusCode.UNAVAILABLE,
        reason=grpc.StatusCode.UNAVAILABLE.name,
    )


def _overdue(job_id: str, seen: batch_job_pb2.BatchJob | None, timeout_s: float) -> InfermeshError:
    state = "not heard of" if seen is None else f"{seen.status} at {seen.progress.percent_complete:.1f} %"
    return InfermeshError(
        f"job {job_id} has not ended within {timeout_s:g} s; it is {state}",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
        reason=grpc.StatusCode.DEADLINE_EXCEEDED.name,
        advice=f"It goes on: `infermesh batch watch {job_id}` follows it, `infermesh batch cancel {job_id}` stops it.",
    )
