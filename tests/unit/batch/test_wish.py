"""What is asked for, before anything outside is looked at."""

from dataclasses import replace
from typing import Any

import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.batch.convert import change_from_proto, digest_of, wish_from_proto
from services.batch.domain.chunks import chunk_rows
from services.batch.domain.job import Compression, Format
from services.batch.domain.notices import NO_OFFICES
from services.batch.domain.wish import Wish, draft
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import spec_of

WISH: dict[str, Any] = {"model": "digits", "input_uri": "/data/in.csv", "output_uri": "file:///data/out.parquet"}


def test_defaults_are_filled_in() -> None:
    made = draft(Wish(**WISH))
    assert (made.batch_size, made.max_parallelism, made.timeout_minutes) == (1000, 10, 1440)
    assert (made.max_failed_fraction, made.job_name, made.version) == (1.0, "digits: in.csv", "")
    assert (made.input.format, made.output.format) == (Format.CSV, Format.PARQUET)
    assert made.output.path == "/data/out.parquet"
    assert made.output.errors_uri == "file:///data/out.parquet.errors.jsonl"


@pytest.mark.parametrize(
    ("uri", "path", "kind", "packed"),
    [
        ("/data/in.csv.gz", "/data/in.csv.gz", Format.CSV, None),
        ("file:///data/a%20b/part-*.jsonl", "/data/a b/part-*.jsonl", Format.JSONL, None),
        ("file:///data/?.pq", "/data/?.pq", Format.PARQUET, None),
        ("/data/rows/", "/data/rows/", None, None),
        ("/data/rows", "/data/rows", None, None),
        ("/data/rows.parquet/", "/data/rows.parquet/", Format.PARQUET, None),
        ("s3://bucket/day=*/part-#%20.csv", "s3://bucket/day=*/part-#%20.csv", Format.CSV, None),
        ("GS://bucket/", "gs://bucket/", None, None),
    ],
)
def test_inputs_may_be_files_folders_and_patterns(uri: str, path: str, kind: Format | None, packed: str | None) -> None:
    made = draft(Wish(**{**WISH, "input_uri": uri})).input
    assert (made.path, made.format, made.compression) == (path, kind, packed)


@pytest.mark.parametrize(
    ("uri", "asked", "path", "packed"),
    [
        ("s3://bucket/out.csv.gz", "", "s3://bucket/out.csv.gz", Compression.GZIP),
        ("gs://bucket/day=1/out.jsonl", "zstd", "gs://bucket/day=1/out.jsonl", Compression.ZSTD),
        ("/data/out.csv.bz2", "none", "/data/out.csv.bz2", Compression.NONE),
        ("/data/out.parquet", "", "/data/out.parquet", Compression.NONE),
    ],
)
def test_outputs_are_packed_as_asked_or_called(uri: str, asked: str, path: str, packed: Compression) -> None:
    made = draft(Wish(**{**WISH, "output_uri": uri, "output_compression": asked})).output
    assert (made.path, made.compression) == (path, packed)
    assert made.errors_path == f"{path}.errors.jsonl"


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"model": "Digits"}, Reason.INVALID_FIELD, "model_name"),
        ({"version": "one"}, Reason.INVALID_FIELD, "model_version"),
        ({"input_uri": "in.csv"}, Reason.INVALID_FIELD, "absolute"),
        ({"input_uri": "/data/in.txt"}, Reason.INVALID_FIELD, r"\.parquet"),
        ({"input_uri": "/data/in.parquet", "input_compression": "gzip"}, Reason.INVALID_FIELD, "compresses inside"),
        ({"input_uri": "/data/in.csv", "input_compression": "rar"}, Reason.INVALID_FIELD, "gzip, zstd, bz2"),
        ({"input_uri": "s3://UPPER/in.csv"}, Reason.INVALID_FIELD, "lower-case"),
        ({"input_uri": "s3://bucket/a//in.csv"}, Reason.INVALID_FIELD, "empty parts"),
        ({"input_uri": "s3://bucket/../in.csv"}, Reason.INVALID_FIELD, "empty parts"),
        ({"input_uri": "http://host/in.csv"}, Reason.INVALID_FIELD, "gs://"),
        ({"input_uri": "/data/[z-a].csv"}, Reason.INVALID_FIELD, "a pattern"),
        ({"output_uri": "gs://bucket/*.csv"}, Reason.INVALID_FIELD, "one file"),
        ({"output_uri": "s3://bucket/folder/"}, Reason.INVALID_FIELD, "one file"),
        ({"output_uri": "s3://bucket"}, Reason.INVALID_FIELD, "one file|bucket/key"),
        ({"input_uri": "s3://bu/in/", "output_uri": "s3://buc/in/out.csv"}, Reason.INVALID_FIELD, "lower-case"),
        ({"input_uri": "s3://buc/in/", "output_uri": "s3://buc/in/out.csv"}, Reason.INVALID_FIELD, "outside"),
        ({"input_uri": "/data/*.csv", "output_uri": "/data/out.csv"}, Reason.INVALID_FIELD, "does not match"),
        ({"output_columns": ("a", "b", "a")}, Reason.INVALID_FIELD, "'a'.*once"),
        ({"output_columns": ("a", "class")}, Reason.INVALID_FIELD, "'class'"),
        ({"output_columns": ("explanation_baseline",)}, Reason.INVALID_FIELD, "'explanation_baseline'"),
        ({"output_uri": "/data/in.csv"}, Reason.INVALID_FIELD, "another file"),
        ({"output_uri": "/data/./in.csv"}, Reason.INVALID_FIELD, "another file"),
        ({"delimiter": ";;"}, Reason.INVALID_FIELD, "delimiter"),
        ({"encoding": "latin-1"}, Reason.INVALID_FIELD, "utf-8"),
        ({"max_failed_fraction": 1.5}, Reason.INVALID_FIELD, "0 to 1"),
        ({"max_failed_fraction": float("nan")}, Reason.INVALID_FIELD, "0 to 1"),
        ({"labels": {"a=b": "c"}}, Reason.INVALID_FIELD, "labels"),
        ({"job_name": "x" * 129}, Reason.INVALID_FIELD, "128"),
        ({"runtime": "cluster"}, Reason.INVALID_FIELD, "INFERMESH_BATCH_CLUSTERS"),
        ({"input_format": "xml"}, Reason.INVALID_FIELD, "input.format"),
    ],
)
def test_what_makes_no_sense_is_named(changes: dict[str, Any], reason: Reason, words: str) -> None:
    with pytest.raises(MeshError, match=words) as error:
        draft(Wish(**{**WISH, **changes}))
    assert error.value.reason is reason


def test_a_job_runs_in_clusters_that_there_are_and_reads_and_writes_buckets_there() -> None:
    places = {"input_uri": "s3://buc/in.csv", "output_uri": "gs://buc/out.csv"}
    assert draft(Wish(**{**WISH, **places, "runtime": "far"}), clusters=("near", "far")).runtime == "far"
    assert draft(Wish(**{**WISH, **places}), clusters=("far",)).runtime == "local"
    assert draft(Wish(**{**WISH, "runtime": "local"}), clusters=("far",)).runtime == "local"
    with pytest.raises(MeshError, match="runtime is 'fra'; allowed: one of local, far, near"):
        draft(Wish(**{**WISH, **places, "runtime": "fra"}), clusters=("near", "far"))
    with pytest.raises(MeshError, match="pods of runtime 'far'") as error:
        draft(Wish(**{**WISH, "runtime": "far"}), clusters=("far",))
    assert [one.field for one in error.value.violations] == ["input_uri", "output_uri"]


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(MeshError) as error:
        draft(Wish("Digits", batch_size=70_000, max_parallelism=257, input_uri="/in.csv", output_uri=""))
    assert [violation.field for violation in error.value.violations] == [
        *("model_name", "output_uri", "batch_size", "max_parallelism")
    ]


@pytest.mark.parametrize(("asked", "becomes"), [(0, 32), (1, 1), (32, 32)])
def test_explained_rows_are_sent_in_requests_that_the_batcher_takes(asked: int, becomes: int) -> None:
    request = batch_service_pb2.CreateBatchJobRequest(
        model_name="digits",
        input_uri="/in.csv",
        output_uri="/out.csv",
        batch_size=asked,
        output=batch_job_pb2.OutputOptions(explain=True),
    )
    made = draft(wish_from_proto(request))
    assert (made.output.explain, made.batch_size) == (True, becomes)
    # And a chunk is done in a time that is worth waiting for, however few rows that is.
    assert chunk_rows(made.batch_size, explain=True) == 8 * becomes


def test_a_batch_size_that_cannot_be_explained_is_refused_and_so_is_a_change_to_one() -> None:
    with pytest.raises(MeshError, match=r"batch_size.*33.*1 to 32 with output\.explain"):
        draft(Wish(**WISH, batch_size=33, explain=True))
    update = batch_service_pb2.UpdateBatchJobRequest(job=batch_job_pb2.BatchJob(batch_size=33))
    spec = spec_of("/in.csv", "/out.csv")
    assert change_from_proto(update, NO_OFFICES)(spec).batch_size == 33
    with pytest.raises(MeshError, match="1 to 32"):
        change_from_proto(update, NO_OFFICES)(replace(spec, output=replace(spec.output, explain=True)))


def test_the_request_id_is_no_part_of_the_wish() -> None:
    one = batch_service_pb2.CreateBatchJobRequest(model_name="digits", labels={"a": "1", "b": "2"}, request_id="x")
    other = batch_service_pb2.CreateBatchJobRequest(model_name="digits", labels={"b": "2", "a": "1"}, request_id="y")
    assert digest_of(one) == digest_of(other)
    other.batch_size = 5
    assert digest_of(one) != digest_of(other)
    assert one.request_id == "x"
