"""Protobuf to wishes, jobs to protobuf."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.batch.domain.chunks import FailedRow
from services.batch.domain.job import FeatureJoin, Job, JobSpec, Notice, Status
from services.batch.domain.notices import Means, NoticeWish, Offices, check_mailbox, check_notices
from services.batch.domain.wish import (
    SourceWish,
    Wish,
    check_batch_size,
    check_fraction,
    check_job_name,
    check_labels,
    check_parallelism,
    check_timeout,
    may_all_fail,
)
from services.batch.engines.sample import Sample
from services.batch.ports import StoredChunk
from services.common.errors import invalid

_CHANGES: dict[str, Callable[[JobSpec, batch_job_pb2.BatchJob, Offices], JobSpec]] = {
    "batch_size": lambda spec, job, _: replace(
        spec, batch_size=check_batch_size(job.batch_size, explain=spec.output.explain)
    ),
    "max_parallelism": lambda spec, job, _: replace(spec, max_parallelism=check_parallelism(job.max_parallelism)),
    "timeout_minutes": lambda spec, job, _: replace(spec, timeout_minutes=check_timeout(job.timeout_minutes)),
    "max_failed_fraction": lambda spec, job, _: replace(
        spec, max_failed_fraction=check_fraction(_fraction(job)), all_may_fail=may_all_fail(_fraction(job))
    ),
    "labels": lambda spec, job, _: replace(spec, labels=check_labels(job.labels)),
    "job_name": lambda spec, job, _: replace(spec, job_name=check_job_name(job.job_name) or spec.job_name),
    "notify_on_completion": lambda spec, job, offices: replace(
        spec, notify_on_completion=check_mailbox(job.notify_on_completion, offices)
    ),
    "notifications": lambda spec, job, offices: replace(
        spec, notices=check_notices(_notices(job.notifications), offices)
    ),
}


def wish_from_proto(request: batch_service_pb2.CreateBatchJobRequest) -> Wish:
    """What the caller wants."""
    wish = _wish(request.model_name, request.model_version, request.input_uri, request.input, request.output)
    return replace(
        wish,
        output_uri=request.output_uri,
        job_name=request.job_name,
        batch_size=request.batch_size,
        max_parallelism=request.max_parallelism,
        timeout_minutes=request.timeout_minutes,
        max_failed_fraction=_fraction(request),
        parameters=dict(request.parameters),
        labels=dict(request.labels),
        runtime=request.runtime,
        notify_on_completion=request.notify_on_completion,
        notices=_notices(request.notifications),
    )


def _fraction(asked: batch_service_pb2.CreateBatchJobRequest | batch_job_pb2.BatchJob) -> float | None:
    return asked.max_failed_fraction if asked.HasField("max_failed_fraction") else None


def sample_from_proto(request: batch_service_pb2.SampleBatchJobRequest) -> Wish:
    """What the caller wants to try."""
    wish = _wish(request.model_name, request.model_version, request.input_uri, request.input, request.output)
    return replace(wish, parameters=dict(request.parameters))


def job_to_json(job: Job, now: datetime) -> bytes:
    """A job as REST answers it."""
    return json_format.MessageToJson(
        job_to_proto(job, now),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    ).encode()


def digest_of(request: batch_service_pb2.CreateBatchJobRequest) -> str:
    """Differs between wishes; the request id is no part of one."""
    wish = batch_service_pb2.CreateBatchJobRequest()
    wish.CopyFrom(request)
    wish.request_id = ""
    return hashlib.sha256(wish.SerializeToString(deterministic=True)).hexdigest()


def change_from_proto(
    request: batch_service_pb2.UpdateBatchJobRequest, offices: Offices
) -> Callable[[JobSpec], JobSpec]:
    """The change that an update asks for. Raises INVALID_FIELD where a field cannot be changed."""
    sent = request.job
    names = list(request.update_mask.paths) or [field.name for field, _ in sent.ListFields() if field.name in _CHANGES]
    for name in names:
        if name not in _CHANGES:
            raise invalid("update_mask", name, "of " + ", ".join(_CHANGES))

    def change(spec: JobSpec) -> JobSpec:
        for name in names:
            spec = _CHANGES[name](spec, sent, offices)
        return spec

    return change


def job_to_proto(job: Job, now: datetime) -> batch_job_pb2.BatchJob:
    """A job as callers see it."""
    message = spec_to_proto(job.spec)
    message.job_id = job.job_id
    message.status = job.status
    # The file appears with the output, and only where a row failed.
    message.errors_uri = job.spec.output.errors_uri if job.failed_rows and job.status is not Status.CANCELLED else ""
    message.progress.CopyFrom(_progress(job))
    message.metrics.CopyFrom(_metrics(job))
    message.error_message, message.error_reason = job.error_message, job.error_reason
    message.paused = job.paused
    message.attempt = job.attempt
    message.team, message.created_by, message.schedule_id = job.team, job.created_by, job.schedule_id
    message.etag = job.etag
    moments = (
        ("estimated_completion_time", job.estimated_end(now)),
        ("created_at", job.created_at),
        ("started_at", job.started_at),
        ("completed_at", job.completed_at),
        ("updated_at", job.updated_at),
    )
    for field, moment in moments:
        if moment is not None:
            getattr(message, field).CopyFrom(timestamp(moment))
    return message


def spec_to_proto(spec: JobSpec) -> batch_job_pb2.BatchJob:
    """A job as it would be made."""
    return batch_job_pb2.BatchJob(
        status=Status.PENDING,
        job_name=spec.job_name,
        model_name=spec.version.model,
        model_version=spec.version.version,
        artifact_digest=spec.version.artifact_digest,
        input_uri=spec.input.uri,
        output_uri=spec.output.uri,
        input=batch_job_pb2.InputOptions(
            format=spec.input.format or "",
            compression=spec.input.compression or "",
            key_column=spec.input.key_column,
            feature_columns=spec.input.feature_columns,
            delimiter=spec.input.delimiter,
            no_header=not spec.input.header,
            encoding="utf-8",
            event_time_column=spec.input.event_time_column,
            feature_sources=[_source(join) for join in spec.input.joins],
        ),
        output=batch_job_pb2.OutputOptions(
            format=spec.output.format,
            overwrite=spec.output.overwrite,
            compression=spec.output.compression,
            columns=spec.output.columns,
            explain=spec.output.explain,
        ),
        batch_size=spec.batch_size,
        max_parallelism=spec.max_parallelism,
        timeout_minutes=spec.timeout_minutes,
        max_failed_fraction=spec.max_failed_fraction,
        parameters=spec.parameters,
        labels=spec.labels,
        runtime=spec.runtime,
        notify_on_completion=spec.notify_on_completion,
        notifications=[_notification(notice) for notice in spec.notices],
    )


def failed_row_to_proto(row: FailedRow) -> batch_job_pb2.FailedRow:
    """A row that could not be predicted."""
    return batch_job_pb2.FailedRow(
        row_number=row.row_number, key=row.key, error_reason=row.reason, error_message=row.message
    )


def chunk_to_proto(stored: StoredChunk) -> batch_job_pb2.BatchChunk:
    """A step of a job."""
    done = stored.part is not None
    return batch_job_pb2.BatchChunk(
        index=stored.chunk.index,
        status=Status.COMPLETED if done else Status.PENDING,
        first_row=stored.chunk.first_row,
        row_count=stored.chunk.row_count,
        failed_row_count=stored.failed_rows,
        attempt=1 if done else 0,
        worker=stored.worker,
        completed_at=timestamp(datetime.fromtimestamp(stored.completed_at, UTC)) if done else None,
    )


def sample_to_proto(sample: Sample, version: str, rows_json: Sequence[str]) -> batch_service_pb2.SampleBatchJobResponse:
    """The first rows."""
    return batch_service_pb2.SampleBatchJobResponse(
        columns=sample.table.column_names,
        rows_json=rows_json,
        failed_rows=[failed_row_to_proto(row) for row in sample.failed],
        model_version=version,
    )


def _wish(
    model: str,
    version: str,
    uri: str,
    read: batch_job_pb2.InputOptions,
    write: batch_job_pb2.OutputOptions,
) -> Wish:
    return Wish(
        model=model,
        version=version,
        input_uri=uri,
        input_format=read.format,
        input_compression=read.compression,
        key_column=read.key_column,
        feature_columns=dict(read.feature_columns),
        delimiter=read.delimiter,
        header=not read.no_header,
        encoding=read.encoding,
        event_time_column=read.event_time_column,
        feature_sources=tuple(
            SourceWish(
                uri=source.uri,
                format=source.format,
                entity=source.entity,
                timestamp_column=source.timestamp_column,
                features=tuple(source.features),
                max_age_s=source.max_age_s,
            )
            for source in read.feature_sources
        ),
        output_format=write.format,
        output_compression=write.compression,
        output_columns=tuple(write.columns),
        overwrite=write.overwrite,
        explain=write.explain,
    )


def _source(join: FeatureJoin) -> batch_job_pb2.FeatureSource:
    return batch_job_pb2.FeatureSource(
        uri=join.uri,
        format=join.format,
        entity=join.entity,
        timestamp_column=join.timestamp_column,
        features=join.features,
        max_age_s=join.asked_age_s,
    )


def _notices(sent: Iterable[batch_job_pb2.Notification]) -> tuple[NoticeWish, ...]:
    return tuple(
        NoticeWish(
            email=notification.email,
            webhook_url=notification.webhook_url,
            slack_channel=notification.slack_channel,
            statuses=tuple(notification.statuses),
        )
        for notification in sent
    )


def _notification(notice: Notice) -> batch_job_pb2.Notification:
    fields = {Means.EMAIL: "email", Means.WEBHOOK: "webhook_url", Means.SLACK: "slack_channel"}
    message = batch_job_pb2.Notification(statuses=notice.statuses)
    setattr(message, fields[Means(notice.means)], notice.address)
    return message


def _progress(job: Job) -> batch_job_pb2.BatchJobProgress:
    return batch_job_pb2.BatchJobProgress(
        total_records=job.total_rows,
        processed_records=job.processed_rows,
        failed_records=job.failed_rows,
        percent_complete=job.percent,
        total_chunks=job.total_chunks,
        completed_chunks=job.completed_chunks,
    )


def _metrics(job: Job) -> batch_job_pb2.BatchJobMetrics:
    spent = job.spent
    return batch_job_pb2.BatchJobMetrics(
        avg_latency_ms=spent.latency_ms_sum / spent.requests if spent.requests else 0,
        throughput_per_sec=job.rows_per_s,
        request_count=spent.requests,
        retry_count=spent.retries,
        running_s=job.running_s,
        read_s=spent.read_s,
        predict_s=spent.predict_s,
        write_s=spent.write_s,
    )


def timestamp(moment: datetime) -> Timestamp:
    """A moment in a message."""
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC))
    return made
