"""What is asked for, before anything outside is looked at."""

from typing import Any

import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.batch.convert import digest_of, wish_from_proto
from services.batch.domain.job import Format
from services.batch.domain.wish import Wish, draft
from services.common.errors import MeshError, Reason

WISH: dict[str, Any] = {"model": "digits", "input_uri": "/data/in.csv", "output_uri": "file:///data/out.parquet"}


def test_defaults_are_filled_in() -> None:
    made = draft(Wish(**WISH))
    assert (made.batch_size, made.max_parallelism, made.timeout_minutes) == (1000, 10, 1440)
    assert (made.max_failed_fraction, made.job_name, made.version) == (1.0, "digits: in.csv", "")
    assert (made.input.format, made.output.format) == (Format.CSV, Format.PARQUET)
    assert made.output.path == "/data/out.parquet"
    assert made.output.errors_uri == "file:///data/out.parquet.errors.jsonl"


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"model": "Digits"}, Reason.INVALID_FIELD, "model_name"),
        ({"version": "one"}, Reason.INVALID_FIELD, "model_version"),
        ({"input_uri": "in.csv"}, Reason.INVALID_FIELD, "absolute"),
        ({"input_uri": "/data/in.txt"}, Reason.INVALID_FIELD, r"\.parquet"),
        ({"input_uri": "/data/in.csv.gz"}, Reason.NOT_IMPLEMENTED, "gzip"),
        ({"input_uri": "/data/*.csv"}, Reason.NOT_IMPLEMENTED, "patterns"),
        ({"output_uri": "gs://bucket/out.csv"}, Reason.NOT_IMPLEMENTED, "gs://"),
        ({"output_uri": "/data/in.csv"}, Reason.INVALID_FIELD, "another file"),
        ({"output_uri": "/data/./in.csv"}, Reason.INVALID_FIELD, "another file"),
        ({"delimiter": ";;"}, Reason.INVALID_FIELD, "delimiter"),
        ({"encoding": "latin-1"}, Reason.INVALID_FIELD, "utf-8"),
        ({"max_failed_fraction": 1.5}, Reason.INVALID_FIELD, "0 to 1"),
        ({"max_failed_fraction": float("nan")}, Reason.INVALID_FIELD, "0 to 1"),
        ({"labels": {"a=b": "c"}}, Reason.INVALID_FIELD, "labels"),
        ({"job_name": "x" * 129}, Reason.INVALID_FIELD, "128"),
        ({"runtime": "cluster"}, Reason.NOT_IMPLEMENTED, "runtime"),
        ({"input_format": "xml"}, Reason.INVALID_FIELD, "input.format"),
    ],
)
def test_what_makes_no_sense_is_named(changes: dict[str, Any], reason: Reason, words: str) -> None:
    with pytest.raises(MeshError, match=words) as error:
        draft(Wish(**{**WISH, **changes}))
    assert error.value.reason is reason


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(MeshError) as error:
        draft(Wish("Digits", batch_size=70_000, max_parallelism=257, input_uri="/in.csv", output_uri=""))
    assert [violation.field for violation in error.value.violations] == [
        *("model_name", "output_uri", "batch_size", "max_parallelism")
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"notify_on_completion": "a@b.example"},
        {"notifications": [batch_job_pb2.Notification(email="a@b.example")]},
        {"output": batch_job_pb2.OutputOptions(columns=["a"])},
        {"output": batch_job_pb2.OutputOptions(explain=True)},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_is_not_built_is_said_and_not_passed_over(asked: dict[str, Any]) -> None:
    request = batch_service_pb2.CreateBatchJobRequest(model_name="digits", **asked)
    with pytest.raises(MeshError, match=next(iter(asked))) as error:
        draft(wish_from_proto(request))
    assert error.value.reason is Reason.NOT_IMPLEMENTED


def test_the_request_id_is_no_part_of_the_wish() -> None:
    one = batch_service_pb2.CreateBatchJobRequest(model_name="digits", labels={"a": "1", "b": "2"}, request_id="x")
    other = batch_service_pb2.CreateBatchJobRequest(model_name="digits", labels={"b": "2", "a": "1"}, request_id="y")
    assert digest_of(one) == digest_of(other)
    other.batch_size = 5
    assert digest_of(one) != digest_of(other)
    assert one.request_id == "x"
