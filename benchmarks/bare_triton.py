"""Triton alone, to compare with: the same binary, runner, artifact and threads; it batches as well as it can."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.load import LoadFailedError
from benchmarks.payloads import VERSION
from services.common.clock import Clock
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.domain.package import FRAMEWORKS, Package
from services.supervisor.examples import DIGITS
from services.supervisor.parts.triton import triton_part
from services.supervisor.ports import free_ports
from services.supervisor.process import PartFailedError, Process, last_words
from services.supervisor.settings import ROOT, SupervisorSettings

_LOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to let Triton serve digits. `rows_max` 0: it does not batch."""

    rows_max: int = 0
    delay_us: int = 0
    """How long a batch may wait for more requests."""
    preferred: tuple[int, ...] = ()
    """Sizes at which a batch waits no longer."""
    instances: int = 1

    @property
    def model_name(self) -> str:
        """The model's name in the server."""
        sizes = "".join(f"-p{size}" for size in self.preferred)
        return f"digits-b{self.rows_max}-d{self.delay_us}{sizes}-i{self.instances}"

    def __str__(self) -> str:
        copies = f"{self.instances} instance" + ("s" if self.instances > 1 else "")
        if not self.rows_max:
            return f"no batching, {copies}"
        sizes = f", preferred {'/'.join(map(str, self.preferred))}" if self.preferred else ""
        return f"batches to {self.rows_max}, delay {self.delay_us} µs{sizes}, {copies}"

    def config(self) -> str:
        """The model's configuration."""
        batch = "" if self.rows_max else "-1, "
        label = "dims: [ 1 ] reshape: { shape: [ ] }" if self.rows_max else "dims: [ -1 ]"
        preferred = f" preferred_batch_size: [ {', '.join(map(str, self.preferred))} ]" if self.preferred else ""
        batching = f"dynamic_batching {{ max_queue_delay_microseconds: {self.delay_us}{preferred} }}\n"
        return (
            f'name: "{self.model_name}"\n'
            'backend: "python"\n'
            f"max_batch_size: {self.rows_max}\n"
            f'input [ {{ name: "X" data_type: TYPE_FP32 dims: [ {batch}64 ] }} ]\n'
            f'output [ {{ name: "label" data_type: TYPE_INT64 {label} }},\n'
            f'         {{ name: "probabilities" data_type: TYPE_FP32 dims: [ {batch}10 ] }} ]\n'
            f"instance_group [ {{ kind: KIND_CPU count: {self.instances} }} ]\n" + (batching if self.rows_max else "")
        )


SETTINGS: Sequence[Setting] = (
    Setting(),
    Setting(instances=2),
    Setting(32),
    Setting(32, instances=2),
    Setting(64),
    Setting(64, instances=2),
    Setting(64, 100),
    Setting(64, 500),
    Setting(64, 500, (32, 64)),
    Setting(256),
    Setting(256, instances=2),
    Setting(256, 500, (64, 128, 256)),
)
"""What is tried."""

_SERVING = {
    "framework": "onnx",
    "artifact": FRAMEWORKS["onnx"],
    "threads": 1,
    "inputs": [{"name": "X", "datatype": "FP32"}],
    "outputs": [{"name": "label", "datatype": "INT64"}, {"name": "probabilities", "datatype": "FP32"}],
}


class BareTriton:
    """A running server. Models are loaded by `load`."""

    def __init__(self, *, http_address: str, grpc_address: str, packages: FolderPackageStore) -> None:
        self.grpc_address = grpc_address
        self._http_address = http_address
        self._packages = packages

    async def load(self, setting: Setting) -> None:
        """Has digits served as `setting` says, under its own name. Raises httpx.HTTPError where Triton refuses."""
        artifact = DIGITS / f"digits-{VERSION}.onnx"
        await self._packages.ensure(
            Package(
                server_model_name=setting.model_name,
                config=setting.config(),
                serving=json.dumps(_SERVING),
                artifact_path=str(artifact),
                artifact_digest=hashlib.sha256(artifact.read_bytes()).hexdigest(),
                artifact_name=FRAMEWORKS["onnx"],
                fingerprint=setting.config(),
            )
        )
        await self._repository(setting, "load")

    async def unload(self, setting: Setting) -> None:
        """Takes it out again."""
        await self._repository(setting, "unload")

    async def _repository(self, setting: Setting, verb: str) -> None:
        """Raises httpx.HTTPError."""
        async with httpx.AsyncClient(trust_env=False, timeout=_LOAD_TIMEOUT_S) as client:
            url = f"http://{self._http_address}/v2/repository/models/{setting.model_name}/{verb}"
            (await client.post(url)).raise_for_status()


@asynccontextmanager
async def bare_triton(folder: Path, *, clock: Clock) -> AsyncIterator[BareTriton]:
    """A Triton of its own in `folder`, on free ports; stopped at the end."""
    http_port, grpc_port, metrics_port = free_ports(3)
    repository = folder / "repository"
    part = triton_part(
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        repository=repository,
        serving_python=SupervisorSettings().serving_env / "bin" / "python",
        work_dir=folder,
        log_path=folder / "triton.log",
    )
    packages = FolderPackageStore(repository, runner=ROOT / "deploy" / "triton" / "runner")
    await packages.start()
    process = await Process.start(part, clock=clock)
    try:
        await process.wait_ready()
        yield BareTriton(
            http_address=f"127.0.0.1:{http_port}", grpc_address=f"127.0.0.1:{grpc_port}", packages=packages
        )
    except (LoadFailedError, httpx.HTTPError) as error:
        if process.alive:
            raise
        raise PartFailedError(
            f"bare Triton died: {last_words(part.log_path)}; its log is {part.log_path}; run the benchmark again"
        ) from error
    finally:
        await process.stop()
