"""A Triton that tests may kill, and a deployer that they may stop and start again."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field

import grpc
import httpx
import orjson
import psutil
from infermesh.deployer.v1 import (
    backend_service_pb2,
    backend_service_pb2_grpc,
    deployer_service_pb2,
    deployer_service_pb2_grpc,
    deployment_pb2,
)

from services.common.access.book import AccessBook
from services.common.access.guard import Guard
from services.common.access.parts import AccessParts
from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.common.lifecycle import Lifecycle
from services.common.names import backend_model_name
from services.deployer.ports import ArtifactSource, VersionSource
from services.deployer.settings import DeployerSettings
from services.deployer.wiring import assemble
from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from services.supervisor.settings import ROOT
from tests.support.deployer_fakes import FakeTraffic

DIGITS = ROOT / ".build" / "digits"
Create = deployer_service_pb2.CreateDeploymentRequest


@dataclass
class Triton:
    """The server, which tests may kill and start again."""

    part: Part
    process: Process

    async def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        # As the supervisor does after every death: a model's process may outlive its server.
        await self.process.stop()

    async def start(self) -> None:
        self.process = await Process.start(self.part, clock=SystemClock())
        await self.process.wait_ready()

    async def predict(self, version: str) -> list[int]:
        """The labels that a version gives to the samples."""
        samples = orjson.loads((DIGITS / "samples.json").read_bytes())
        data = [pixel for sample in samples for pixel in sample["instance"]["X"]]
        tensor = {"name": "X", "datatype": "FP32", "shape": [len(samples), 64], "data": data}
        url = (
            f"http://127.0.0.1:{self.part.ports['triton_http']}/v2/models/{backend_model_name('digits', version)}/infer"
        )
        async with httpx.AsyncClient() as client:
            answer = await client.post(url, json={"inputs": [tensor]}, timeout=10)
        outputs = {output["name"]: output["data"] for output in answer.raise_for_status().json()["outputs"]}
        return [int(label) for label in outputs["label"]]

    def model_processes(self) -> set[int]:
        """The processes in which its models run."""
        found = set()
        for one in psutil.Process(self.process.pid).children(recursive=True):
            # One that has ended is none of them, and may end while it is looked at.
            with suppress(psutil.NoSuchProcess):
                if "python_backend_stub" in " ".join(one.cmdline()):
                    found.add(one.pid)
        return found

    async def is_loaded(self, version: str) -> bool:
        name = backend_model_name("digits", version)
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{self.part.ports['triton_http']}/v2/models/{name}/ready")
        return answer.status_code == 200


def expected(version: str) -> list[int]:
    return [sample["expected"][version] for sample in orjson.loads((DIGITS / "samples.json").read_bytes())]


def no_access() -> AccessParts:
    """Of a deployer that nobody tells of teams: callers without a role may everything, others next to nothing."""
    book = AccessBook()
    return AccessParts(book, Guard(book))


@dataclass
class Mesh:
    """A deployer that tests may stop and start again, and its callers."""

    settings: DeployerSettings
    versions: VersionSource
    traffic: FakeTraffic = field(default_factory=FakeTraffic)
    access: AccessParts = field(default_factory=no_access)
    artifacts: ArtifactSource | None = None
    lifecycle: Lifecycle | None = None
    channel: grpc.aio.Channel | None = None
    service: "deployer_service_pb2_grpc.DeployerServiceAsyncStub | None" = None

    async def start(self) -> None:
        clock = SystemClock()
        lifecycle = Lifecycle(name="deployer", clock=clock)
        deployer = assemble(
            self.settings,
            clock=clock,
            lifecycle=lifecycle,
            versions=self.versions,
            router=self.traffic,
            access=self.access,
            artifacts=self.artifacts,
        )
        await lifecycle.start()
        self.lifecycle = lifecycle
        self.channel = open_channel(f"127.0.0.1:{deployer.server.port}")
        self.service = deployer_service_pb2_grpc.DeployerServiceStub(self.channel)

    async def stop(self) -> None:
        if self.channel is not None and self.lifecycle is not None:
            await self.channel.close(None)
            await self.lifecycle.stop()
            self.lifecycle = None

    async def deploy(self, version: str, name: str, **more: object) -> deployment_pb2.Deployment:
        """Deploys a version of digits and waits until it is settled."""
        await self.calls.CreateDeployment(
            Create(model_name="digits", version=version, deployment_name=name, **more)  # type: ignore[arg-type]
        )
        return await self.wait(name)

    async def wait(self, name: str) -> deployment_pb2.Deployment:
        request = deployer_service_pb2.WaitDeploymentRequest(model_name="digits", deployment_name=name, timeout_s=30)
        return await self.calls.WaitDeployment(request, timeout=31)

    async def restart(self, name: str) -> deployment_pb2.Deployment:
        return await self.calls.RestartDeployment(
            deployer_service_pb2.RestartDeploymentRequest(model_name="digits", deployment_name=name)
        )

    async def get(self, name: str) -> deployment_pb2.Deployment:
        return await self.calls.GetDeployment(
            deployer_service_pb2.GetDeploymentRequest(model_name="digits", deployment_name=name)
        )

    @property
    def calls(self) -> "deployer_service_pb2_grpc.DeployerServiceAsyncStub":
        assert self.service is not None
        return self.service

    async def backends(self) -> backend_service_pb2.WatchBackendsResponse:
        """The complete first answer that a watcher gets."""
        assert self.channel is not None
        stub = backend_service_pb2_grpc.BackendServiceStub(self.channel)
        stream = stub.WatchBackends(backend_service_pb2.WatchBackendsRequest(watcher_id="test"), timeout=10)
        async for answer in stream:
            assert isinstance(answer, backend_service_pb2.WatchBackendsResponse)
            return answer
        raise AssertionError("the stream ended")

    async def published(self) -> dict[str, list[str]]:
        return {model.model_name: [one.version for one in model.versions] for model in (await self.backends()).models}
