"""Exports of the prediction log: whole files, each row once, whoever dies meanwhile."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from infermesh.monitor.v1 import monitor_service_pb2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.monitor.adapters.export_files import Folders
from services.monitor.adapters.postgres_exports import PostgresExportStore
from services.monitor.adapters.postgres_log_search import PostgresLogReader
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.domain.log_exports import Format, Status
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.engines.log_exports import ExportRunner, LogExports
from services.monitor.ports_log import ExportLease, PartFile
from tests.integration.monitor.conftest import RunningMonitor
from tests.support.clock import FakeClock
from tests.support.monitor_log import group_message, message
from tests.support.s3 import S3, s3_server
from tests.support.waiting import eventually

NOON = FakeClock().now()
ROWS = 25_000


@pytest.fixture
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """25,000 rows of a model over three days before noon, many of the same moment, and some of another model."""
    await migrate(database_url, service="monitor")
    made = create_engine(database_url, schema="monitor")
    for days in (2, 0):
        keeper = PartitionKeeper(
            store=PostgresPartitionStore(made),
            tables=(PartitionedTable("inference_logs", 30),),
            clock=FakeClock(NOON - timedelta(days=days)),
        )
        await keeper.keep()
    async with made.begin() as connection:
        await connection.execute(
            text("""
                INSERT INTO inference_logs (request_id, model_id, version_id, deployment_id, latency_ms, output,
                                            "timestamp", metadata)
                SELECT 'r' || n, CASE WHEN n % 100 = 0 THEN 'iris' ELSE 'digits' END, 'v1.0.0', 'main', n / 2.0,
                       CASE WHEN n % 2 = 0 THEN json_build_object('label', n) END,
                       CAST(:noon AS timestamptz) - interval '1 hour' - n / 7 * interval '20 seconds',
                       '{"rows": "1", "code": "0"}'
                FROM generate_series(1, :rows) AS n
            """),
            {"noon": NOON, "rows": ROWS},
        )
    yield made
    await made.dispose()


EXPECTED = {f"r{number}" for number in range(1, ROWS + 1) if number % 100}


class World:
    """The exports over a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.store, self.files = PostgresExportStore(engine), Folders()
        self.exports = LogExports(store=self.store, files=self.files, clock=FakeClock(), retention_days=30)
        self.engine = engine

    def runner(self, owner: str = "one", files: Folders | None = None) -> ExportRunner:
        return ExportRunner(
            store=self.store,
            reader=PostgresLogReader(self.engine),
            files=files or self.files,
            clock=SystemClock(),
            owner=owner,
            lease_s=0.5,
        )

    async def create(self, output_uri: str, kind: str = "bulk_json", **fields: Any) -> str:
        start = fields.pop("start", NOON - timedelta(days=4))
        made = await self.exports.create(
            fields.pop("model", "digits"), start=start, end=NOON, kind=kind, output_uri=output_uri,
            request_id=fields.pop("request_id", ""), **fields,
        )  # fmt: skip
        return made.export_id


@pytest.fixture
def world(engine: AsyncEngine) -> World:
    return World(engine)


def bulk_rows(content: bytes) -> list[dict[str, Any]]:
    """The rows of a body of Elasticsearch's bulk API: newline-delimited, an action line before each source line, and a
    newline at the end."""
    assert content.endswith(b"\n")
    lines = content[:-1].split(b"\n")
    assert len(lines) % 2 == 0
    rows = []
    for action, source in zip(lines[::2], lines[1::2], strict=True):
        [(kind, meta)] = json.loads(action).items()
        assert kind == "index"
        assert meta.keys() == {"_index", "_id"}
        assert meta["_index"] == meta["_index"].lower()
        assert meta["_index"].startswith("infermesh-inference-logs-")
        rows.append({**json.loads(source), "_id": meta["_id"]})
    return rows


async def test_bulk_json_has_every_row_once_in_files_that_bulk_requests_may_carry(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    export_id = await world.create(str(folder))
    assert await world.runner().run_one()
    done = await world.exports.get(export_id)
    assert (done.status, done.row_count) == (Status.COMPLETED, len(EXPECTED))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["_SUCCESS", "part-00000.ndjson", "part-00001.ndjson", "part-00002.ndjson"]
    assert json.loads((folder / "_SUCCESS").read_text()) == {"export_id": export_id, "files": 3, "rows": len(EXPECTED)}
    rows = [row for name in names[1:] for row in bulk_rows((folder / name).read_bytes())]
    assert len(bulk_rows((folder / names[1]).read_bytes())) == 10_000
    assert {row["request_id"] for row in rows} == EXPECTED
    assert len({row["_id"] for row in rows}) == len(rows) == len(EXPECTED)
    moments = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    assert moments == sorted(moments)
    [even] = [row for row in rows if row["request_id"] == "r8"]
    assert (even["output"], even["latency_ms"], even["metadata"]["rows"]) == ({"label": 8}, 4.0, "1")
    assert not await world.runner().run_one(), "nothing is left to do"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_parquet_has_typed_columns_in_a_bucket(world: World, s3: S3, scheme: str) -> None:
    export_id = await world.create(f"{scheme}://{s3.bucket}/logs/digits/", kind="")
    await world.runner().run_one()
    assert (await world.exports.get(export_id)).status is Status.COMPLETED
    assert s3.keys() == ["logs/digits/_SUCCESS", "logs/digits/part-00000.parquet"]
    file = pq.ParquetFile(io.BytesIO(s3.get("logs/digits/part-00000.parquet")))
    assert file.num_row_groups == 3
    table = file.read()
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("latency_ms").type == pa.float64()
    assert table.schema.field("metadata").type == pa.map_(pa.string(), pa.string())
    assert set(table["request_id"].to_pylist()) == EXPECTED
    assert table.num_rows == len(EXPECTED)
    [even] = [row for row in table.to_pylist() if row["request_id"] == "r8"]
    assert json.loads(even["output"]) == {"label": 8}
    assert even["timestamp"] == (NOON - timedelta(hours=1, seconds=20)).astimezone(UTC)
    with pytest.raises(MeshError) as caught:
        await world.create(f"{scheme}://{s3.bucket}/logs/digits")
    assert caught.value.reason is Reason.OUTPUT_UNWRITABLE


async def test_an_export_of_nothing_is_a_file_without_rows(world: World, tmp_path: Path) -> None:
    await world.create(str(tmp_path / "log"), kind="parquet", model="nobody")
    await world.runner().run_one()
    assert pq.read_table(tmp_path / "log" / "part-00000.parquet").num_rows == 0


class Dying(Folders):
    """A monitor that dies as it places a file: before it appears, or after."""

    def __init__(self, *, number: int, after: bool) -> None:
        super().__init__()
        self._left, self._after = number, after

    def begin(self, folder: str, name: str, kind: Format, *, model: str) -> PartFile:
        part = super().begin(folder, name, kind, model=model)
        place = part.place

        def die() -> None:
            self._left -= 1
            if self._left >= 0:
                place()
                return
            if self._after:
                place()
            raise KilledError

        part.place = die  # type: ignore[method-assign]
        return part


class KilledError(BaseException):
    """Nothing is recorded any more."""


@pytest.mark.parametrize("after", [False, True])
async def test_another_monitor_goes_on_and_no_row_is_there_twice(world: World, tmp_path: Path, after: bool) -> None:
    folder = tmp_path / "log"
    export_id = await world.create(str(folder))
    with pytest.raises(KilledError):
        await world.runner(files=Dying(number=1, after=after)).run_one()
    before = (folder / "part-00000.ndjson").stat().st_mtime_ns
    running = await world.exports.get(export_id)
    assert (running.status, running.row_count) == (Status.RUNNING, 10_000)
    async with world.engine.begin() as connection:
        # Late ones of moments that are in files already, or are planned.
        await connection.execute(
            text("""
                INSERT INTO inference_logs (request_id, model_id, version_id, deployment_id, latency_ms, "timestamp")
                SELECT 'late' || n, 'digits', 'v1.0.0', 'main', 1, "timestamp" FROM inference_logs,
                       generate_series(1, 3) AS n WHERE request_id IN ('r24999', 'r8000', 'r7')
            """)
        )
    second = world.runner("two")
    await eventually(second.run_one, what="the lease of the dead is over")
    assert (folder / "part-00000.ndjson").stat().st_mtime_ns == before, "what is written is left alone"
    rows = [row for path in sorted(folder.glob("part-*")) for row in bulk_rows(path.read_bytes())]
    assert len({row["_id"] for row in rows}) == len(rows)
    assert {row["request_id"] for row in rows} >= EXPECTED
    done = await world.exports.get(export_id)
    assert (done.status, done.row_count) == (Status.COMPLETED, len(rows))
    assert [path.name for path in folder.glob(".*")] == [], "what the dead left half done is gone"


async def test_whoever_lost_the_lease_records_nothing(world: World, tmp_path: Path) -> None:
    await world.create(str(tmp_path / "log"))
    first = await world.store.claim("one", lease_s=0.05)
    assert first is not None
    claims: list[ExportLease] = []

    async def claimed() -> bool:
        lease = await world.store.claim("two", lease_s=30)
        claims.extend([lease] if lease is not None else [])
        return bool(claims)

    await eventually(claimed, what="the lease is over")
    [second] = claims
    assert second.token > first.token
    assert not await world.store.renew(first, lease_s=5)
    assert not await world.store.plan(first, None)
    assert not await world.store.end(first, rows=1)
    assert await world.store.renew(second, lease_s=5)


async def test_outputs_that_exist_and_calls_that_are_repeated(world: World, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    with pytest.raises(MeshError, match="there is something in it") as caught:
        await world.create(str(tmp_path / "full"))
    assert caught.value.reason is Reason.OUTPUT_UNWRITABLE
    assert not await world.runner().run_one(), "what was refused is not made later"
    with pytest.raises(MeshError, match="make it first"):
        await world.create(str(tmp_path / "no" / "where"))
    one = await world.create(f"file://{tmp_path}/log", request_id="again")
    assert await world.create(str(tmp_path / "log"), request_id="again") == one
    with pytest.raises(MeshError) as caught:
        await world.create(str(tmp_path / "other"), request_id="again")
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    with pytest.raises(MeshError, match="another export") as caught:
        await world.create(str(tmp_path / "log"))
    assert caught.value.reason is Reason.OUTPUT_UNWRITABLE


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"kind": "csv"}, "format"),
        ({"output_uri": "logs"}, "output_uri"),
        ({"output_uri": "/a/../b"}, "output_uri"),
        ({"output_uri": "https://a/b"}, "output_uri"),
        ({"output_uri": "s3://bucket"}, "output_uri"),
        ({"start": None}, "start_time"),
        ({"start": NOON - timedelta(days=31)}, "start_time"),
        ({"request_id": "x" * 65}, "request_id"),
        ({"model": "No Model"}, "model"),
    ],
)
async def test_what_cannot_be_exported_is_refused_with_the_field(
    world: World, tmp_path: Path, fields: dict[str, Any], word: str
) -> None:
    with pytest.raises(MeshError) as caught:
        await world.create(**{"output_uri": str(tmp_path / "log"), **fields})
    assert caught.value.reason is Reason.INVALID_FIELD
    assert word in caught.value.message


async def test_an_export_over_the_api_completes(monitor: RunningMonitor, now: datetime, tmp_path: Path) -> None:
    await monitor.send(message(1, group_message([1000] * 50, at=now - timedelta(seconds=30))))
    request = monitor_service_pb2.ExportInferenceLogsRequest(
        model_name="digits", format="parquet", output_uri=f"file://{tmp_path}/log"
    )
    request.start_time.FromDatetime(now - timedelta(hours=1))
    request.end_time.FromDatetime(now - timedelta(seconds=10))
    export = await monitor.metrics.ExportInferenceLogs(request)
    assert export.status == "pending"

    async def completed() -> bool:
        nonlocal export
        asked = monitor_service_pb2.GetLogExportRequest(export_id=export.export_id)
        export = await monitor.metrics.GetLogExport(asked)
        return bool(export.status == "completed")

    await eventually(completed, what="the export is complete")
    assert export.row_count == 50
    assert pq.read_table(tmp_path / "log" / "part-00000.parquet").num_rows == 50
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.GetLogExport(monitor_service_pb2.GetLogExportRequest(export_id="none"))
    assert caught.value.reason is Reason.LOG_EXPORT_NOT_FOUND
