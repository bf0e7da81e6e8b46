"""Triton alone, to compare with: the same binary, runner, artifact and threads; it batches as well as it can."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.payloads import VERSION
from services.common.clock import Clock
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.domain.package import FRAMEWORKS, Package
from services.supervisor.examples import DIGITS
from services.supervisor.parts.triton import triton_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from services.supervisor.settings import ROOT, SupervisorSettings

_LOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """A model that Triton can serve: input X FP32, outputs label INT64, one a row, and scores FP32."""

    name: str
    artifact: Path
    dims: tuple[int, ...]
    """Of one row."""
    scores: str
    """The name of the scores."""
    classes: int

    def serving(self) -> str:
        """What the runner reads."""
        outputs = [{"name": "label", "datatype": "INT64"}, {"name": self.scores, "datatype": "FP32"}]
        return json.dumps(
            {
                "framework": "onnx",
                "artifact": FRAMEWORKS["onnx"],
                "threads": 1,
                "inputs": [{"name": "X", "datatype": "FP32"}],
                "outputs": outputs,
            }
        )


DIGITS_SERVED = Served("digits", DIGITS / f"digits-{VERSION}.onnx", (64,), "probabilities", 10)


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to let Triton serve a model. `rows_max` 0: it does not batch."""

    rows_max: int = 0
    delay_us: int = 0
    """How long a batch may wait for more requests."""
    preferred: tuple[int, ...] = ()
    """Sizes at which a batch waits no longer."""
    instances: int = 1

    def model_name(self, served: Served) -> str:
        """The model's name in the server."""
        sizes = "".join(f"-p{size}" for size in self.preferred)
        return f"{served.name}-b{self.rows_max}-d{self.delay_us}{sizes}-i{self.instances}"

    def __str__(self) -> str:
        copies = f"{self.instances} instance" + ("s" if self.instances > 1 else "")
        if not self.rows_max:
            return f"no batching, {copies}"
        sizes = f", preferred {'/'.join(map(str, self.preferred))}" if self.preferred else ""
        return f"batches to {self.rows_max}, delay {self.delay_us} µs{sizes}, {copies}"

    def config(self, served: Served) -> str:
        """The model's configuration."""
        row = ", ".join(map(str, served.dims))
        batch = "" if self.rows_max else "-1, "
        label = "dims: [ 1 ] reshape: { shape: [ ] }" if self.rows_max else "dims: [ -1 ]"
        preferred = f" preferred_batch_size: [ {', '.join(map(str, self.preferred))} ]" if self.preferred else ""
        batching = f"dynamic_batching {{ max_queue_delay_microseconds: {self.delay_us}{preferred} }}\n"
        return (
            f'name: "{self.model_name(served)}"\n'
            'backend: "python"\n'
            f"max_batch_size: {self.rows_max}\n"
            f'input [ {{ name: "X" data_type: TYPE_FP32 dims: [ {batch}{row} ] }} ]\n'
            f'output [ {{ name: "label" data_type: TYPE_INT64 {label} }},\n'
            f'         {{ name: "{served.scores}" data_type: TYPE_FP32 dims: [ {batch}{served.classes} ] }} ]\n'
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
    Setting(64, 500, (32, 64)),
    Setting(256),
    Setting(256, instances=2),
)
"""What is tried for a load of many callers."""
SETTINGS_JSON: Sequence[Setting] = tuple(
    Setting(rows_max, 0, (), copies) for rows_max in (0, 64, 256) for copies in (1, 2)
)
"""The same over HTTP/JSON, where reading and writing text is most of the work and a window gains nothing."""
SETTINGS_QUICK: Sequence[Setting] = (Setting(), Setting(64), Setting(64, instances=2), Setting(256))
"""The same where time is short: those that have won."""
WINDOWS: Sequence[Setting] = tuple(Setting(256, delay_us) for delay_us in (0, 100, 500, 1000, 5000))
"""What is tried for an open loop: how long a batch waits for more."""


class BareTriton:
    """A running server. Models are loaded by `load`."""

    def __init__(
        self,
        process: Process,
        *,
        start: Callable[[], Awaitable[Process]],
        http_address: str,
        grpc_address: str,
        packages: FolderPackageStore,
    ) -> None:
        self.grpc_address = grpc_address
        self.http_address = http_address
        self.revivals = 0
        """How often it was started anew."""
        self._process = process
        self._start = start
        self._packages = packages
        self._loaded: set[tuple[Served, Setting]] = set()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def revive(self) -> None:
        """Starts it anew at its addresses with the models that it had. Raises PartFailedError."""
        await self._process.stop()
        self._process = await self._start()
        self.revivals += 1
        loaded, self._loaded = self._loaded, set()
        for served, setting in loaded:
            await self.load(served, setting)

    async def stop(self) -> None:
        """Ends it."""
        await self._process.stop()

    async def load(self, served: Served, setting: Setting) -> None:
        """Has the model served as `setting` says, under its own name. Raises httpx.HTTPError where Triton refuses."""
        await self._packages.ensure(
            Package(
                server_model_name=setting.model_name(served),
                config=setting.config(served),
                serving=served.serving(),
                artifact_path=str(served.artifact),
                artifact_digest=hashlib.sha256(served.artifact.read_bytes()).hexdigest(),
                artifact_name=FRAMEWORKS["onnx"],
                fingerprint=setting.config(served),
            )
        )
        await self._repository(setting.model_name(served), "load")
        self._loaded.add((served, setting))

    async def keep(self, served: Served, settings: Collection[Setting]) -> None:
        """Has the model served in exactly these settings: loads what lacks, takes out the others."""
        for setting in settings:
            if (served, setting) not in self._loaded:
                await self.load(served, setting)
        for other in [one for one in self._loaded if one[0] == served and one[1] not in settings]:
            await self._repository(other[1].model_name(served), "unload")
            self._loaded.remove(other)

    async def _repository(self, model_name: str, verb: str) -> None:
        """Raises httpx.HTTPError."""
        async with httpx.AsyncClient(trust_env=False, timeout=_LOAD_TIMEOUT_S) as client:
            url = f"http://{self.http_address}/v2/repository/models/{model_name}/{verb}"
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

    async def start() -> Process:
        process = await Process.start(part, clock=clock)
        try:
            await process.wait_ready()
        except BaseException:
            await process.stop()
            raise
        return process

    triton = BareTriton(
        await start(),
        start=start,
        http_address=f"127.0.0.1:{http_port}",
        grpc_address=f"127.0.0.1:{grpc_port}",
        packages=packages,
    )
    try:
        yield triton
    finally:
        await triton.stop()
