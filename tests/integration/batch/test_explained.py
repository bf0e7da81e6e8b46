"""Jobs that explain, as processes before a real batcher and a real Triton: their outputs are what Predict explains."""

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2
from infermesh.prediction.v1 import prediction_pb2

from services.common.errors import MeshError, Reason
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from tests.integration.batch.driving import Service
from tests.support.explaining_mesh import IMAGES, SAMPLE, TIMEOUT_S, WEIGHTS, Mesh, explaining_mesh, new_database
from tests.support.registry_driving import OLD
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXPLAIN = batch_job_pb2.OutputOptions(explain=True)
JOB_TIMEOUT_S = 60.0


@dataclass
class Site:
    """A mesh and its batch service."""

    mesh: Mesh
    service: Service

    async def run(self, source: Path, target: Path, model: str = "credit") -> batch_job_pb2.BatchJob:
        """A job that explains, once it is completed."""
        made = await self.service.submit(source, target, model_name=model, model_version=OLD, output=EXPLAIN)
        job = await self.service.ended(made.job_id, timeout_s=JOB_TIMEOUT_S)
        assert job.status == "completed", job.error_message
        return job

    async def predicted(self, model: str, rows: Sequence[Mapping[str, object]]) -> Sequence[prediction_pb2.Prediction]:
        """What Predict says of single precision rows, all in one request."""
        request = prediction_pb2.PredictRequest(model_name=model, version=OLD, explain=True)
        for row in rows:
            features = request.instances.add().features
            for name, value in row.items():
                if isinstance(value, list):
                    features[name].float_list.values.extend(value)
                else:
                    features[name].float_value = value  # type: ignore[assignment]
        answer = await self.mesh.stub.Predict(request, timeout=TIMEOUT_S)
        predictions: Sequence[prediction_pb2.Prediction] = answer.predictions
        return predictions


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, postgres_server: tuple[int, str]) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("explained")
    async with explaining_mesh(folder, postgres_server) as mesh:
        port, metrics_port = free_ports(2)
        part = service_part(
            "batch",
            ports={"batch": port, "batch_metrics": metrics_port},
            settings={
                "port": port,
                "metrics_port": metrics_port,
                "database_url": new_database(postgres_server),
                "data_dir": folder / "data",
                "registry_address": mesh.registry.address,
                "batcher_address": mesh.address,
                "authentication": False,
                # Longer than anything waits for its turn on a machine that others use too.
                "lease_s": 10.0,
                "worker_niceness": 0,
                "poll_period_s": 0.1,
                "workers": 1,
            },
            work_dir=folder,
            log_path=folder / "batch.log",
        )
        service = Service(part, port, metrics_port)
        await service.start()
        yield Site(mesh, service)
        await service.stop()
        await service.close()


def rows_of(count: int) -> list[dict[str, float]]:
    return [
        {"income": 900.0 * row, "age": 18.0 + row % 60, "debt": row % 7 / 4, "visits": row % 3} for row in range(count)
    ]


def write_rows(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Each feature of the model is a list of one number."""
    lines = [{"id": f"c{place}", **{name: [row[name]] for name in WEIGHTS}} for place, row in enumerate(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def of_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_csv(path: Path) -> list[dict[str, object]]:
    rows = pa_csv.read_csv(path).to_pylist()
    return [{**row, "explanation": json.loads(row["explanation"])} for row in rows]


def of_parquet(path: Path) -> list[dict[str, object]]:
    table = pq.read_table(path)
    assert table.schema.field("explanation").type == pa.map_(pa.string(), pa.float64())
    assert table.schema.field("explanation_baseline").type == pa.float64()
    return [{**row, "explanation": dict(row["explanation"])} for row in table.to_pylist()]


@pytest.mark.parametrize(("ending", "read"), [("jsonl", of_lines), ("csv", of_csv), ("parquet", of_parquet)])
async def test_each_format_has_what_predict_explains(
    site: Site, tmp_path: Path, ending: str, read: Callable[[Path], list[dict[str, object]]]
) -> None:
    rows, source, target = rows_of(20), tmp_path / "in.jsonl", tmp_path / f"out.{ending}"
    write_rows(source, rows)
    job = await site.run(source, target)
    assert job.output.explain
    written, predicted = read(target), await site.predicted("credit", rows)
    assert [list(row) for row in written] == [
        ["id", "output", "explanation", "explanation_baseline", "model_version"]
    ] * len(rows)
    assert [row["id"] for row in written] == [f"c{place}" for place in range(len(rows))]
    for row, one in zip(written, predicted, strict=True):
        assert list(row["explanation"]) == list(WEIGHTS)  # type: ignore[call-overload]
        assert row["output"] == pytest.approx(one.output.float_value, rel=1e-6)
        assert row["explanation"] == pytest.approx(dict(one.explanation), abs=1e-6)
        assert row["explanation_baseline"] == pytest.approx(one.explanation_baseline, abs=1e-6)


async def test_pixels_and_probabilities_are_those_of_predict(site: Site, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"id": place, **one}) + "\n" for place, one in enumerate(IMAGES[:6])))
    await site.run(source, target, "digits")
    for row, one in zip(of_lines(target), await site.predicted("digits", IMAGES[:6]), strict=True):
        assert list(row["explanation"]) == [f"X[{pixel}]" for pixel in range(64)]  # type: ignore[call-overload]
        assert row["explanation"] == pytest.approx(dict(one.explanation), abs=1e-6)
        assert row["class"] == one.class_name
        assert row["probabilities"] == pytest.approx(dict(one.probabilities), abs=1e-6)


async def test_a_killed_worker_and_a_second_run_give_the_same_bytes(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    write_rows(source, rows_of(240))
    await site.run(source, tmp_path / "calm.parquet")
    made = await site.service.submit(
        source, tmp_path / "killed.parquet", model_name="credit", model_version=OLD, output=EXPLAIN
    )

    async def begun() -> bool:
        return (await site.service.get(made.job_id)).progress.completed_chunks > 0

    await eventually(begun, what="a chunk is done")
    (worker,) = site.service.workers()
    os.kill(worker.pid, signal.SIGKILL)
    job = await site.service.ended(made.job_id, timeout_s=JOB_TIMEOUT_S)
    assert job.status == "completed", job.error_message
    assert job.progress.total_chunks > 2
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "calm.parquet").read_bytes()


async def test_a_version_without_a_sample_is_refused_before_there_is_a_job(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(IMAGES[0]) + "\n")
    with pytest.raises(MeshError, match=r"output\.explain: .*without a reference sample") as error:
        await site.service.submit(
            source, tmp_path / "out.jsonl", model_name="digits", model_version="v1.1.0", output=EXPLAIN
        )
    assert error.value.reason is Reason.EXPLANATION_UNAVAILABLE
    with pytest.raises(MeshError, match=r"batch_size.*33.*1 to 32 with output\.explain"):
        await site.service.submit(
            source, tmp_path / "out.jsonl", model_name="digits", model_version=OLD, output=EXPLAIN, batch_size=33
        )


async def test_a_sample_shows_explanations(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    write_rows(source, rows_of(50))
    request = batch_service_pb2.SampleBatchJobRequest(model_name="credit", input_uri=str(source), output=EXPLAIN)
    sample = await site.service.stub.SampleBatchJob(request)
    assert list(sample.columns)[-3:] == ["explanation", "explanation_baseline", "model_version"]
    assert len(sample.rows_json) == 10
    assert list(json.loads(sample.rows_json[0])["explanation"]) == list(WEIGHTS)
    request.row_count = 33
    with pytest.raises(MeshError, match=r"row_count.*1 to 32"):
        await site.service.stub.SampleBatchJob(request)


async def test_a_row_that_cannot_be_explained_is_a_failed_row(site: Site, tmp_path: Path) -> None:
    rows, source, target = [*rows_of(6), dict(SAMPLE[0])], tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows[3] = {**rows[3], "debt": 3e38}  # three times which is infinite in single precision
    write_rows(source, rows)
    job = await site.run(source, target)
    assert [row["id"] for row in of_lines(target)] == ["c0", "c1", "c2", "c4", "c5", "c6"]
    (failed,) = of_lines(Path(f"{target}.errors.jsonl"))
    assert (failed["key"], failed["error_reason"]) == ("c3", "EXPLANATION_UNAVAILABLE")
    assert job.progress.failed_records == 1
