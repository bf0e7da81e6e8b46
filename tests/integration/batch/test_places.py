"""Jobs of a real process from and to buckets, over folders and packed files: killed in their middle, refused early."""

import bz2
import gzip
import io
import json
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.common.errors import MeshError, Reason
from tests.integration.batch.driving import Service
from tests.support.batch_servers import SumsServicer
from tests.support.s3 import S3
from tests.support.waiting import eventually

ROWS = 120


@pytest.fixture
def registry_address(s3: S3, registry_address: str) -> str:
    """The buckets are there, and named in this environment, before the service starts and is given them."""
    return registry_address


def lines(first: int, count: int, *, bad: tuple[int, ...] = ()) -> bytes:
    rows = (
        {"id": 1000 + row, "a": row / 4, "b": "x" if row in bad else row % 90, "note": f"n{row}"}
        for row in range(first, first + count)
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def written(content: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in content.splitlines()]


def names_of_outputs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*out*"))


async def chunks_done(service: Service, job_id: str) -> bool:
    return (await service.get(job_id)).progress.completed_chunks >= 1


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_from_bucket_to_bucket_a_job_survives_a_kill(
    service: Service, model: SumsServicer, s3: S3, tmp_path: Path, scheme: str
) -> None:
    folder = f"{tmp_path.name}-{scheme}"
    for number in range(3):
        s3.put(f"{folder}/day={number}/part-0.jsonl", lines(number * 40, 40, bad=(7, 81)))
    s3.put(f"{folder}/day=0/_SUCCESS", b"")
    target = f"{scheme}://{s3.bucket}/{folder}/out.csv.gz"
    model.hold_after(22)
    made = await service.submit(
        f"{scheme}://{s3.bucket}/{folder}/day=*/part-*.jsonl",
        target,
        output=batch_job_pb2.OutputOptions(columns=["note"]),
    )
    await eventually(partial(chunks_done, service, made.job_id), what="a chunk is recorded")
    await service.kill()
    assert not [key for key in s3.keys(folder) if key.endswith(("out.csv.gz", ".errors.jsonl"))]
    model.release()
    await service.start()
    job = await service.ended(made.job_id)
    assert job.status == "completed", job.error_message
    assert (job.progress.total_records, job.progress.failed_records) == (ROWS, 2)
    head, *rows = gzip.decompress(s3.get(f"{folder}/out.csv.gz")).decode().splitlines()
    assert head.split(",")[:3] == ['"id"', '"note"', '"output"']
    good = [row for row in range(ROWS) if row not in (7, 81)]
    assert [row.split(",")[:3] for row in rows] == [
        [str(1000 + row), f'"n{row}"', f"{row / 4 + row % 90:g}"] for row in good
    ]
    first, second = written(s3.get(f"{folder}/out.csv.gz.errors.jsonl"))
    assert (first["row_number"], second["row_number"]) == (7, 81)
    assert str(second["error_message"]).endswith(f"(row 1 of {scheme}://{s3.bucket}/{folder}/day=2/part-0.jsonl)")
    await eventually(lambda: not [key for key in s3.keys(folder) if "/." in key], what="parts are cleared away")
    assert not (tmp_path / "data" / "jobs").exists()


async def test_columns_keep_their_types_in_parquet(service: Service, tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    moments = pa.array(range(ROWS), type=pa.timestamp("us", tz="UTC"))
    tags = pa.array([["a", "b"]] * ROWS, type=pa.list_(pa.string()))
    amounts = pa.array([None if row % 3 else row for row in range(ROWS)], type=pa.decimal128(9, 2))
    words = pa.array([f"w{row % 3}" for row in range(ROWS)]).dictionary_encode()
    columns = {
        "key": list(range(ROWS)),
        "a": [0.5] * ROWS,
        "b": [3] * ROWS,
        "when": moments,
        "tags": tags,
        "amount": amounts,
        "word": words,
    }
    pq.write_table(pa.table(columns), source)
    copied = ["amount", "when", "tags", "b", "word"]
    options = batch_job_pb2.OutputOptions(columns=copied)
    job = await service.ended((await service.submit(source, target, output=options)).job_id)
    assert job.status == "completed", job.error_message
    assert list(job.output.columns) == copied
    table = pq.read_table(target)
    assert table.column_names[:7] == ["key", *copied, "output"]
    for name, column in (("when", moments), ("tags", tags), ("amount", amounts)):
        assert table[name].combine_chunks() == column
    assert table["word"].to_pylist() == words.to_pylist()
    text = tmp_path / "out.csv"
    job = await service.ended((await service.submit(source, text, output=options)).job_id)
    assert job.status == "completed", job.error_message
    assert '"[""a"",""b""]",3,"w0",3.5' in text.read_text().splitlines()[1]
    sample = await service.stub.SampleBatchJob(
        batch_service_pb2.SampleBatchJobRequest(
            model_name="sums", input_uri=str(source), row_count=1, output=batch_job_pb2.OutputOptions(columns=["tags"])
        )
    )
    assert json.loads(sample.rows_json[0])["tags"] == ["a", "b"]


async def test_lines_of_json_copy_their_values_as_they_are(service: Service, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl.bz2"
    values = ["text", 1, 1.5, None, {"deep": [True]}]
    rows = [{"id": place, "a": 1, "b": 2, "any": value} for place, value in enumerate(values)]
    source.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))
    options = batch_job_pb2.OutputOptions(columns=["any"])
    job = await service.ended((await service.submit(source, target, output=options)).job_id)
    assert (job.status, job.output.compression) == ("completed", "bz2"), job.error_message
    assert [row["any"] for row in written(bz2.decompress(target.read_bytes()))] == values


async def test_what_cannot_be_copied_read_or_written_is_refused_at_once(
    service: Service, s3: S3, tmp_path: Path
) -> None:
    source, target = tmp_path / "rows" / "in.jsonl", tmp_path / "out.jsonl"
    source.parent.mkdir()
    source.write_bytes(lines(0, 5))
    (tmp_path / "link").symlink_to(source.parent)
    (tmp_path / "same.jsonl").symlink_to(source)
    whole = io.BytesIO()
    pq.write_table(pa.table({"id": [1], "a": [1.0], "b": [1]}), whole)
    (tmp_path / "cut.parquet").write_bytes(whole.getvalue()[:-20])
    (tmp_path / "long.csv").write_bytes(b"id,a,b\n1,2," + b"3" * (9 * 1024 * 1024) + b"\n")
    (tmp_path / "latin.csv").write_bytes("id,größe\n1,2\n".encode("latin-1"))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"id,a,b\n1,2,3\n" * 99)[:-9])
    pq.write_table(pa.table({"id": [1], "a": [[1.0]], "b": pa.array([0], pa.timestamp("s"))}), tmp_path / "odd.parquet")
    (tmp_path / "wide.jsonl").write_bytes(lines(0, 5).decode().encode("utf-16"))
    (tmp_path / "array.jsonl").write_text(json.dumps([{"id": 1, "a": 1, "b": 2}], indent=1))
    (tmp_path / "long.jsonl").write_bytes(b'{"id": "' + b"x" * (9 * 1024 * 1024) + b'"}')
    refusals: list[tuple[dict[str, object], Reason, str]] = [
        ({"output": batch_job_pb2.OutputOptions(columns=["no", "note", "nor"])}, Reason.INVALID_FIELD, "'no, nor'"),
        ({"output": batch_job_pb2.OutputOptions(columns=["output"])}, Reason.INVALID_FIELD, "prediction's own"),
        ({"output": batch_job_pb2.OutputOptions(columns=["id"])}, Reason.INVALID_FIELD, "other than the key"),
        ({"output_uri": str(tmp_path / "same.jsonl")}, Reason.OUTPUT_UNWRITABLE, "the input under another name"),
        (
            {"input_uri": str(source.parent), "output_uri": str(tmp_path / "link" / "out.jsonl")},
            Reason.OUTPUT_UNWRITABLE,
            "lies in the folder that is the input",
        ),
        (
            {"input_uri": f"{tmp_path}/rows/*.jsonl", "output_uri": f"{tmp_path}/link/o.jsonl"},
            Reason.OUTPUT_UNWRITABLE,
            "matches it",
        ),
        ({"input_uri": str(tmp_path / "cut.parquet")}, Reason.INPUT_UNREADABLE, "cut off"),
        ({"input_uri": str(tmp_path / "long.csv")}, Reason.INPUT_UNREADABLE, "line 2 begins a row of more than"),
        ({"input_uri": str(tmp_path / "latin.csv")}, Reason.INPUT_UNREADABLE, "line 1 is no UTF-8"),
        (
            {"input_uri": str(tmp_path / "odd.parquet")},
            Reason.INPUT_UNREADABLE,
            r"no row .* column 'a' is list<.*column 'b' is timestamp",
        ),
        ({"input_uri": str(tmp_path / "wide.jsonl")}, Reason.INPUT_UNREADABLE, "line 1 is no UTF-8; save"),
        ({"input_uri": str(tmp_path / "array.jsonl")}, Reason.INPUT_UNREADABLE, "one JSON object on each line"),
        ({"input_uri": str(tmp_path / "long.jsonl")}, Reason.INPUT_UNREADABLE, "look for a line end that is missing"),
        ({"input_uri": str(tmp_path / "cut.csv.gz")}, Reason.INPUT_UNREADABLE, "as gzip it is cut off"),
        ({"input_uri": f"s3://{s3.bucket}/no/rows.csv"}, Reason.INPUT_UNREADABLE, "no such object"),
        ({"output_uri": "s3://no-such-bucket/out.csv"}, Reason.OUTPUT_UNWRITABLE, "no such bucket"),
        ({"output_uri": f"{tmp_path}/*.csv"}, Reason.INVALID_FIELD, "one file"),
    ]
    for changes, reason, words in refusals:
        with pytest.raises(MeshError, match=words) as error:
            await service.submit(source, target, **changes)
        assert error.value.reason is reason, changes
    assert names_of_outputs(tmp_path) == []
