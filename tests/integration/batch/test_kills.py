"""Workers, the service and PostgreSQL are killed again and again while jobs run: their outputs are those of jobs that
nothing happened to.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.supervisor.parts.part import Part
from services.supervisor.parts.postgres import database_url, postgres_part, read_password
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from services.supervisor.process import PartFailedError, Process
from tests.integration.batch.driving import ENDED, Service, write_rows
from tests.support.batch_servers import SumsServicer, serving
from tests.support.parts import free_port

KILLS = 50
ROWS = 3000
BAD = (0, 7, 1500, 2999)
ENDINGS = ("jsonl", "csv", "parquet")
_WORKERS = 2
_ANSWER_S = 0.02
"""How long the model takes, so that a job outlives some kills."""
_UP_WITHIN_S = 20.0
_PAUSE_S = (0.05, 0.3)
_VICTIMS = {"worker": 6, "service": 2, "postgres": 2}
"""How often each is chosen: a worker is back first."""


class SlowSums(SumsServicer):
    """The model of two numbers, in its own time."""

    async def ModelInfer(self, request, context):  # type: ignore[no-untyped-def]  # as in the class above
        await asyncio.sleep(_ANSWER_S)
        return await super().ModelInfer(request, context)


class Database:
    """A PostgreSQL that may be killed."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._process: Process | None = None

    async def start(self) -> None:
        """Returns once it answers. What is left of the one before may be in its way for a moment."""
        async with asyncio.timeout(_UP_WITHIN_S):
            while True:
                with contextlib.suppress(PartFailedError):
                    self._process = await Process.start(self._part, clock=SystemClock())
                    await self._process.wait_ready()
                    return
                await self.stop()

    async def kill(self) -> None:
        """As a power cut."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._process.stop()

    async def stop(self) -> None:
        """In order."""
        if self._process is not None:
            await self._process.stop()


@dataclass
class Site:
    """All that is killed."""

    service: Service
    database: Database
    kills: Counter[str] = field(default_factory=Counter)

    async def kill(self, victim: str, rng: random.Random) -> None:
        """Kills one of them; service and database are started again."""
        if victim == "worker":
            workers = self.service.workers()
            if not workers:
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
        elif victim == "service":
            await self.service.kill()
            await self.service.start()
        else:
            await self.database.kill()
            await self.database.start()
        self.kills[victim] += 1


@pytest.fixture
def database_folder() -> Iterator[Path]:
    """Not below pytest's own folder, which every session of pytest closes again to other users, and PostgreSQL, which
    starts anew here, is one."""
    with tempfile.TemporaryDirectory(prefix="batch-kills-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
async def site(tmp_path: Path, database_folder: Path, registry_address: str) -> AsyncIterator[Site]:
    folder = database_folder
    part = postgres_part(
        port=free_port(), data_dir=folder / "data", log_path=folder / "postgres.log", options={"fsync": "off"}
    )
    database = Database(part)
    await database.start()
    url = database_url(port=part.ports["postgres"], password=read_password(folder / "data"))
    port, metrics_port = free_ports(2)
    async with serving(model=SlowSums()) as model_address:  # type: ignore[abstract]  # only what the service calls
        told = {
            "port": port,
            "metrics_port": metrics_port,
            "database_url": url,
            "data_dir": tmp_path / "data",
            "registry_address": registry_address,
            "batcher_address": model_address,
            "authentication": False,
            "lease_s": 1.0,
            # Beside other tests a nice worker would do nothing for longer than its leases last.
            "worker_niceness": 0,
            "poll_period_s": 0.1,
            "chunk_rows_min": 40,
            "jobs_max": 3,
            "workers": _WORKERS,
        }
        service = Service(
            service_part(
                "batch",
                ports={"batch": port, "batch_metrics": metrics_port},
                settings=told,
                work_dir=tmp_path,
                log_path=tmp_path / "batch.log",
            ),
            port,
            metrics_port,
        )
        await service.start()
        yield Site(service, database)
        await service.stop()
        await service.close()
        await database.stop()


@pytest.mark.timeout(600)
async def test_whoever_is_killed_whenever_the_outputs_are_the_same(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    write_rows(source, ROWS, bad=BAD)
    for ending in ENDINGS:
        whole = await site.service.submit(source, tmp_path / f"whole.{ending}", batch_size=20)
        assert (await site.service.ended(whole.job_id, timeout_s=150)).status == "completed"
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, made = random.Random(seed), itertools.count()
    jobs: dict[str, Path] = {}
    while site.kills.total() < KILLS:
        try:
            for number in itertools.islice(made, len(ENDINGS) - await running(site.service, jobs)):
                target = tmp_path / f"out-{number}.{ENDINGS[number % len(ENDINGS)]}"
                request_id = f"job-{number}"
                job = await site.service.submit(source, target, batch_size=20, request_id=request_id)
                jobs[job.job_id] = target
        except MeshError:
            await asyncio.sleep(0.1)  # PostgreSQL is only just back
            continue
        await asyncio.sleep(rng.uniform(*_PAUSE_S))
        (victim,) = rng.choices(list(_VICTIMS), weights=list(_VICTIMS.values()))
        await site.kill(victim, rng)
    for job_id, target in jobs.items():
        job = await site.service.ended(job_id, timeout_s=90)
        assert job.status == "completed", job.error_message
        assert (job.progress.processed_records, job.progress.failed_records) == (ROWS, len(BAD))
        for kind in ("", ".errors.jsonl"):
            whole_path = tmp_path / f"whole{target.suffix}{kind}"
            assert target.with_name(target.name + kind).read_bytes() == whole_path.read_bytes(), target
    assert names(tmp_path, ".out*") == []
    print(f"{site.kills.total()} kills ({dict(site.kills)}) over {len(jobs)} jobs of {ROWS} rows")


def names(folder: Path, pattern: str) -> list[str]:
    """Of the files that are there."""
    return [path.name for path in folder.glob(pattern)]


async def running(service: Service, jobs: dict[str, Path]) -> int:
    """Jobs that have not ended."""
    found = await asyncio.gather(*(service.get(job_id) for job_id in jobs))
    return sum(job.status not in ENDED for job in found)
