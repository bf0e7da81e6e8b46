"""A whole mesh of its own, started as `make run` does, on free ports and in a folder that goes with it."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from services.common.clock import Clock
from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from services.supervisor.settings import ROOT

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
_SCRAPE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class BenchMesh:
    """Where a running mesh answers, as host:port."""

    gateway: str
    batcher: str

    async def failed_requests(self) -> float:
        """Requests that the batcher says have failed since its start."""
        async with httpx.AsyncClient(trust_env=False, timeout=_SCRAPE_TIMEOUT_S) as client:
            page = (await client.get(f"http://{self.batcher}/metrics")).raise_for_status()
        return count_errors(page.text)


def count_errors(page: str) -> float:
    """The sum of `model_errors_total` over all labels of a Prometheus page."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "model_errors_total"
    )


@asynccontextmanager
async def bench_mesh(folder: Path, *, clock: Clock) -> AsyncIterator[BenchMesh]:
    """A mesh that serves digits, with its data in `folder`; stopped at the end. Raises PartFailedError."""
    state = folder / "data" / "mesh.json"

    async def complete() -> bool:
        return state.exists() and bool(orjson.loads(state.read_bytes())["complete"])

    part = Part(
        name="mesh",
        argv=(sys.executable, "-m", "services.supervisor", "--free-ports"),
        env={**os.environ, "INFERMESH_DATA_DIR": str(folder / "data"), "INFERMESH_LOG_LEVEL": "warning"},
        cwd=ROOT,
        ready=complete,
        ready_timeout_s=_START_TIMEOUT_S,
        # As Ctrl-C does: the mesh then stops its parts in order.
        stop_signal=signal.SIGINT,
        stop_timeout_s=_STOP_TIMEOUT_S,
        log_path=folder / "mesh.log",
    )
    process = await Process.start(part, clock=clock)
    try:
        await process.wait_ready()
        ports = orjson.loads(state.read_bytes())["ports"]
        yield BenchMesh(gateway=f"127.0.0.1:{ports['gateway']}", batcher=f"127.0.0.1:{ports['batcher']}")
    finally:
        await process.stop()
