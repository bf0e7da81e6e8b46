"""A Triton with the encoder, in as many settings as are asked for."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx

from benchmarks.bare_triton import Setting
from benchmarks.gpu.passages import RECIPE, Sizes
from services.common.clock import Clock
from services.supervisor.parts.triton import triton_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process

_LOAD_TIMEOUT_S = 150.0
"""Each instance is a process that imports PyTorch, and all of them start at once."""
_LOAD_THREADS = 8
_FILES = ("model.py", "network.py")


@dataclass(frozen=True, slots=True)
class Encoder:
    """One way to serve it."""

    setting: Setting
    gpu: bool
    """Its instances are of Triton's kind for GPUs."""
    sizes: Sizes

    @property
    def name(self) -> str:
        """The model's name in a server."""
        return f"encoder-b{self.setting.rows_max}-d{self.setting.delay_us}-i{self.setting.instances}"

    def config(self) -> str:
        """config.pbtxt. A `rows_max` of 0 is what the deployer writes: the first dimension is a batch made before."""
        setting = self.setting
        batch, label = ("", "1") if setting.rows_max else ("-1, ", "-1")
        told = {name: int(value) for name, value in asdict(self.sizes).items()}
        parameters = "".join(f'parameters {{ key: "{k}" value {{ string_value: "{v}" }} }}\n' for k, v in told.items())
        kind = "KIND_GPU" if self.gpu else "KIND_CPU"
        batching = f"dynamic_batching {{ max_queue_delay_microseconds: {setting.delay_us} }}\n"
        shape = "reshape: { shape: [ ] }" if setting.rows_max else ""
        return (
            f'name: "{self.name}"\nbackend: "python"\nmax_batch_size: {setting.rows_max}\n'
            f'input [ {{ name: "ids" data_type: TYPE_INT32 dims: [ {batch}128 ] }} ]\n'
            f'output [ {{ name: "label" data_type: TYPE_INT64 dims: [ {label} ] {shape} }},\n'
            f'         {{ name: "scores" data_type: TYPE_FP32 dims: [ {batch}16 ] }} ]\n'
            f"instance_group [ {{ kind: {kind} count: {setting.instances} }} ]\n{parameters}"
            + (batching if setting.rows_max else "")
        )

    def put_into(self, repository: Path) -> None:
        """Writes the model's folder."""
        version = repository / self.name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (repository / self.name / "config.pbtxt").write_text(self.config())
        for name in _FILES:
            shutil.copy(RECIPE.with_name(name), version / name)


class EncoderTriton:
    """A running server."""

    def __init__(self, start: Process, *, ports: Sequence[int], encoders: Sequence[Encoder], clock: Clock) -> None:
        self.http_address, self.grpc_address, self.metrics_address = (f"127.0.0.1:{port}" for port in ports)
        self.process = start
        self.revivals = 0
        self._encoders = encoders
        self._clock = clock

    async def load(self) -> None:
        """Loads every model, all at once. Raises httpx.HTTPError."""
        async with httpx.AsyncClient(trust_env=False, timeout=_LOAD_TIMEOUT_S) as client:
            url = f"http://{self.http_address}/v2/repository/models"
            answers = await asyncio.gather(*(client.post(f"{url}/{one.name}/load") for one in self._encoders))
            for answer in answers:
                answer.raise_for_status()

    async def revive(self) -> None:
        """Starts it anew. Raises PartFailedError."""
        await self.process.stop()
        self.process = await Process.start(self.process.part, clock=self._clock)
        await self.process.wait_ready()
        await self.load()
        self.revivals += 1


@asynccontextmanager
async def encoder_triton(
    folder: Path, *, python: Path, encoders: Sequence[Encoder], clock: Clock
) -> AsyncIterator[EncoderTriton]:
    """Started in `folder` with all `encoders` loaded; stopped at the end. Raises PartFailedError."""
    ports = free_ports(3)
    part = triton_part(
        http_port=ports[0],
        grpc_port=ports[1],
        metrics_port=ports[2],
        repository=folder / "repository",
        serving_python=python,
        work_dir=folder,
        log_path=folder / "triton.log",
        options=(
            f"--model-load-thread-count={_LOAD_THREADS}",
            "--allow-gpu-metrics=false",
            f"--backend-config=python,stub-timeout-seconds={_LOAD_TIMEOUT_S:.0f}",
        ),
    )
    for encoder in encoders:
        encoder.put_into(folder / "repository")
    # Where the driver's libraries lie is told by the environment on some machines.
    paths = [part.env["LD_LIBRARY_PATH"], os.environ.get("LD_LIBRARY_PATH", "")]
    part = replace(part, env={**part.env, "LD_LIBRARY_PATH": ":".join(filter(None, paths))})
    process = await Process.start(part, clock=clock)
    triton = EncoderTriton(process, ports=ports, encoders=encoders, clock=clock)
    try:
        await process.wait_ready()
        await triton.load()
        yield triton
    finally:
        await triton.process.stop()
