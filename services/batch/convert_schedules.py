"""Protobuf to schedules and back."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from google.protobuf import json_format
from google.protobuf.message import Message
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.batch.convert import timestamp, wish_from_proto
from services.batch.domain.cron import check_cron, check_time_zone
from services.batch.domain.schedule import Schedule, check_overlap, filled_in
from services.batch.domain.wish import Wish
from services.batch.engines.schedules import Asked
from services.common.errors import invalid

_CHANGES: dict[str, Callable[[Schedule, batch_job_pb2.BatchSchedule], Schedule]] = {
    "cron": lambda schedule, sent: replace(schedule, cron=check_cron(sent.cron)),
    "time_zone": lambda schedule, sent: replace(schedule, time_zone=check_time_zone(sent.time_zone)),
    "job": lambda schedule, sent: replace(schedule, template=template_of(sent.job)),
    "overlap": lambda schedule, sent: replace(schedule, overlap=check_overlap(sent.overlap)),
    "paused": lambda schedule, sent: replace(schedule, paused=sent.paused),
}


def schedule_from_proto(schedule: batch_job_pb2.BatchSchedule) -> Asked:
    """A schedule as it is asked for."""
    return Asked(
        name=schedule.schedule_name,
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        overlap=schedule.overlap,
        paused=schedule.paused,
        template=template_of(schedule.job),
    )


def template_of(job: batch_job_pb2.BatchJob) -> str:
    """What of a job is a wish, as JSON."""
    request = batch_service_pb2.CreateBatchJobRequest()
    _copy_wish(job, request)
    return json_format.MessageToJson(request, preserving_proto_field_name=True, indent=None)


def wish_from_template(template: str, names: Mapping[str, str]) -> Wish:
    """The wish of a run, with the placeholders of its URIs filled in."""
    request = json_format.Parse(template, batch_service_pb2.CreateBatchJobRequest())
    request.input_uri = filled_in(request.input_uri, names)
    request.output_uri = filled_in(request.output_uri, names)
    for source in request.input.feature_sources:
        source.uri = filled_in(source.uri, names)
    return wish_from_proto(request)


def schedule_digest(schedule: batch_job_pb2.BatchSchedule) -> str:
    """Differs between wishes."""
    return hashlib.sha256(schedule.SerializeToString(deterministic=True)).hexdigest()


def schedule_change(request: batch_service_pb2.UpdateBatchScheduleRequest) -> Callable[[Schedule], Schedule]:
    """The change that an update asks for. Raises INVALID_FIELD where a field cannot be changed."""
    sent = request.schedule
    names = list(request.update_mask.paths) or [field.name for field, _ in sent.ListFields() if field.name in _CHANGES]
    for name in names:
        if name not in _CHANGES:
            raise invalid("update_mask", name, "of " + ", ".join(_CHANGES))

    def change(schedule: Schedule) -> Schedule:
        for name in names:
            schedule = _CHANGES[name](schedule, sent)
        return schedule

    return change


def schedule_to_proto(schedule: Schedule) -> batch_job_pb2.BatchSchedule:
    """A schedule as callers see it."""
    message = batch_job_pb2.BatchSchedule(
        schedule_id=schedule.schedule_id,
        schedule_name=schedule.name,
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        overlap=schedule.overlap,
        paused=schedule.paused,
        last_job_id=schedule.last_job_id,
        team=schedule.team,
        created_by=schedule.created_by,
        etag=schedule.etag,
        last_error_message=schedule.last_error,
        run_count=schedule.runs,
        waiting_count=len(schedule.waiting),
    )
    _copy_wish(json_format.Parse(schedule.template, batch_service_pb2.CreateBatchJobRequest()), message.job)
    moments = (
        ("next_run_time", schedule.next_at),
        ("last_run_time", schedule.last_run_at),
        ("created_at", schedule.created_at),
        ("updated_at", schedule.updated_at),
    )
    for field, moment in moments:
        if moment is not None:
            getattr(message, field).CopyFrom(timestamp(moment))
    return message


def _copy_wish(source: Message, target: Message) -> None:
    """Copies the fields that a job and the request for it have in common."""
    asked = batch_service_pb2.CreateBatchJobRequest.DESCRIPTOR.fields_by_name
    known = batch_job_pb2.BatchJob.DESCRIPTOR.fields_by_name
    for field, value in source.ListFields():
        if field.name not in asked or field.name not in known:
            continue
        if field.message_type is None and not isinstance(value, (list, tuple)):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).MergeFrom(value)
