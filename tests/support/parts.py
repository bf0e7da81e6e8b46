"""Real parts for tests, started by the launchers that `make run` uses."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.clock import SystemClock
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.catalog import Place
from services.supervisor.parts.part import Part
from services.supervisor.parts.triton import triton_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from services.supervisor.settings import ROOT


def free_port() -> int:
    """A port that nothing listens on."""
    return free_ports(1)[0]


def triton_in(folder: Path, *, options: Sequence[str] = ()) -> Part:
    """Triton on free ports, with its repository in `folder / "repository"`; not started."""
    http_port, grpc_port, metrics_port = free_ports(3)
    return triton_part(
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        repository=folder / "repository",
        serving_python=ROOT / ".venv-serving" / "bin" / "python",
        work_dir=folder,
        log_path=folder / "triton.log",
        options=options,
    )


@asynccontextmanager
async def running(part: Part) -> AsyncIterator[Process]:
    """The part, started and ready; stopped at the end."""
    process = await Process.start(part, clock=SystemClock())
    try:
        await process.wait_ready()
        yield process
    finally:
        await process.stop()


def loader_of(part: Part, name: str = "triton-0") -> TritonServer:
    """Loads models on a Triton of `triton_in`. Close it when done."""
    http, grpc = (f"127.0.0.1:{part.ports[purpose]}" for purpose in ("triton_http", "triton_grpc"))
    return TritonServer(Place(name, http, grpc), load_timeout_s=60)
