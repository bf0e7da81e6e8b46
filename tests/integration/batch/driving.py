"""How tests drive a batch service that is a process of its own."""

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
import psutil
import psycopg
from grpc_health.v1 import health_pb2
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc
from psycopg import sql

from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import PeerTls
from services.supervisor.parts.part import Part
from services.supervisor.process import PartFailedError, Process
from tests.support.batch_servers import SumsServicer, serving
from tests.support.waiting import eventually

ENDED = ("completed", "failed", "cancelled")


class Service:
    """A process that may be killed and started again on the same ports."""

    def __init__(self, part: Part, port: int, metrics_port: int, tls: PeerTls | None = None) -> None:
        self._part = part
        self._metrics_port = metrics_port
        self._process: Process | None = None
        self._channel: grpc.aio.Channel = open_channel(f"127.0.0.1:{port}", tls=tls)
        self._health = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self.stub = batch_service_pb2_grpc.BatchServiceStub(self._channel)

    async def start(self) -> None:
        """Returns once it is ready. As the supervisor does, it waits a while for its ports: a worker that it was just
        starting when it was killed may have them for a moment yet."""
        self._process = await eventually(self._started, timeout_s=10, what="its ports are free")
        await self._process.wait_ready()

    async def _started(self) -> Process:
        try:
            return await Process.start(self._part, clock=SystemClock())
        except PartFailedError as error:
            raise AssertionError(str(error)) from error

    async def kill(self) -> None:
        """Ends it as a power cut would."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._process = None

    def workers(self) -> list[psutil.Process]:
        """The processes that do its chunks."""
        assert self._process is not None
        found = []
        for child in psutil.Process(self._process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "services.batch.worker" in child.cmdline():
                    found.append(child)
        return found

    async def stop(self) -> None:
        """Ends it as an operator would."""
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def close(self) -> None:
        """Closes what the test opened."""
        await self._channel.close()

    async def submit(self, source: Path | str, target: Path | str, **changes: object) -> batch_job_pb2.BatchJob:
        """Makes a job of small requests."""
        request = batch_service_pb2.CreateBatchJobRequest(
            model_name="sums", input_uri=str(source), output_uri=str(target), batch_size=5, max_parallelism=3
        )
        request.MergeFrom(batch_service_pb2.CreateBatchJobRequest(**changes))  # type: ignore[arg-type]
        return await self.stub.CreateBatchJob(request)

    async def get(self, job_id: str) -> batch_job_pb2.BatchJob:
        """One job."""
        return await self.stub.GetBatchJob(batch_service_pb2.GetBatchJobRequest(job_id=job_id))

    async def ended(self, job_id: str, *, timeout_s: float = 45.0) -> batch_job_pb2.BatchJob:
        """The job, once it has ended."""

        async def look() -> batch_job_pb2.BatchJob | None:
            job = await self.get(job_id)
            return job if job.status in ENDED else None

        found = await eventually(look, timeout_s=timeout_s, what=f"{job_id} ends")
        assert found is not None
        return found

    async def health(self) -> int:
        """What it says of itself."""
        return int((await self._health(health_pb2.HealthCheckRequest())).status)

    def metrics(self) -> str:
        """What Prometheus would read."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())


class ModelPort:
    """Where the model is served: may be closed, and opened again."""

    def __init__(self, model: SumsServicer, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
        self.port = port
        self._credentials = credentials
        self._model = model
        self._open: AbstractAsyncContextManager[str] | None = None

    async def open(self) -> None:
        """Serves."""
        self._open = serving(model=self._model, port=self.port, credentials=self._credentials)
        await self._open.__aenter__()

    async def close(self) -> None:
        """Refuses connections."""
        if self._open is not None:
            await self._open.__aexit__(None, None, None)
            self._open = None


@asynccontextmanager
async def unreachable(url: str) -> AsyncIterator[None]:
    """The database takes no connections and has none, as while PostgreSQL restarts."""
    plain, _, name = url.replace("+psycopg", "").rpartition("/")

    async def allow(answer: str) -> None:
        async with await psycopg.AsyncConnection.connect(f"{plain}/postgres", autocommit=True) as connection:
            statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS " + answer).format(sql.Identifier(name))
            await connection.execute(statement)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )

    await allow("false")
    try:
        yield
    finally:
        await allow("true")


def write_rows(path: Path, count: int, *, bad: tuple[int, ...] = ()) -> None:
    """Rows of the model of two numbers, with keys that are no row numbers; rows in `bad` do not fit."""
    rows = ({"id": 1000 + row, "a": row / 4, "b": "x" if row in bad else row % 90} for row in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
