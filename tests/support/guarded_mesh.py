"""A real registry, router, keeper and gateway, each of which may die and come back; deployer and batcher are played."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from infermesh.registry.v1 import team_service_pb2 as pb
from infermesh.router.v1 import router_service_pb2_grpc
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import AUTHORITY, CERTIFICATE, PRIVATE_KEY
from services.common.lifecycle import Lifecycle
from services.registry.settings import RegistrySettings
from services.router.settings import RouterSettings
from services.router.wiring import build
from services.supervisor.process import Process
from tests.integration.router.driving import Surroundings
from tests.support.envoy_gateway import TIMEOUT_S
from tests.support.gateway_keys import bearer
from tests.support.kept_gateway import KeptGateway
from tests.support.registry_driving import Registry
from tests.support.registry_team import OPERATOR, teams_by
from tests.support.waiting import eventually


class GuardedMesh:
    """The parts, and what tests do with them."""

    def __init__(self, around: Surroundings, folder: Path, tls: Path | None) -> None:
        self._around = around
        self._folder = folder
        self._tls = tls
        self._gateway = KeptGateway(folder, asyncio.get_running_loop())
        self._router: Lifecycle | None = None
        self._processes: dict[str, Process] = {}
        self.registry = Registry(
            RegistrySettings(
                port=around.others_port,
                metrics_port=0,
                database_url=SecretStr(around.database_url),
                data_dir=folder / "registry",
                database_period_s=0.1,
            )
        )
        self.router_port = self._gateway.ads_port

    @property
    def address(self) -> str:
        """host:port of the gateway."""
        return self._gateway.address

    @property
    def teams(self) -> Any:
        """TeamService at the registry, for an operator."""
        assert self.registry.channel is not None
        return teams_by(self.registry.channel, OPERATOR)

    async def key(self, team: str, *, role: str = "deployer") -> pb.CreateApiKeyResponse:
        """A new one."""
        request = pb.CreateApiKeyRequest(team_name=team, name="test", role=role)
        made: pb.CreateApiKeyResponse = await self.teams.CreateApiKey(request)
        return made

    async def revoke(self, team: str, key_id: str) -> None:
        """Ends a key."""
        await self.teams.RevokeApiKey(pb.RevokeApiKeyRequest(team_name=team, key_id=key_id))

    async def predict(self, secret: str | None) -> httpx.Response:
        """A prediction through the gateway, over a connection of its own."""
        headers = bearer(secret) if secret is not None else {}
        believed = ssl.create_default_context(cafile=str(self._tls / AUTHORITY)) if self._tls else True
        url = f"{'https' if self._tls else 'http'}://{self.address}/v1/models/digits/predict"
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=believed) as client:
            return await client.post(url, json={}, headers=headers)

    async def status(self, secret: str | None) -> int:
        """Of a prediction; 0 where nobody listens."""
        with suppress(httpx.TransportError):
            return (await self.predict(secret)).status_code
        return 0

    @asynccontextmanager
    async def routing(self) -> AsyncIterator[Any]:
        """The router's own service, past the gateway."""
        async with open_channel(f"127.0.0.1:{self.router_port}") as channel:
            yield router_service_pb2_grpc.RouterServiceStub(channel)

    async def start_router(self) -> None:
        """A new one, over the same database; returns before it is ready."""
        settings = RouterSettings.model_validate(
            {
                "port": self.router_port,
                "metrics_port": 0,
                "database_url": self._around.database_url,
                "deployer_address": f"127.0.0.1:{self._around.deployer.port}",
                "registry_address": f"127.0.0.1:{self._around.others_port}",
                "batch_address": f"127.0.0.1:{self._around.others_port}",
                "monitor_address": f"127.0.0.1:{self._around.others_port}",
                "batcher_address": f"127.0.0.1:{self._gateway.batcher_port}",
                "gateway_port": self._gateway.port,
                "first_batcher_s": 0.05,
                "tls_certificate": str(self._tls / CERTIFICATE) if self._tls else "",
                "tls_private_key": str(self._tls / PRIVATE_KEY) if self._tls else "",
            }
        )
        self._router = build(settings, clock=SystemClock()).lifecycle
        await self._router.start()

    async def stop_router(self) -> None:
        """It ends."""
        if self._router is not None:
            await self._router.stop()
            self._router = None

    async def start_gateway(self) -> None:
        """The gateway's process with its keeper; returns before it serves."""
        (self._folder / "batcher").mkdir(parents=True, exist_ok=True)
        for name, part in (("keeper", self._gateway.keeper_part()), ("envoy", self._gateway.envoy_part())):
            self._processes[name] = await Process.start(part, clock=SystemClock())

    async def lose_gateway(self) -> None:
        """It and its keeper end, and the keeper's disk is lost."""
        for name in ("envoy", "keeper"):
            await self._processes.pop(name).stop()
        for file in self._gateway.kept_dir.glob("*"):
            file.unlink()

    async def start(self) -> None:
        """Everything; returns once the gateway tells callers apart."""
        (self._folder / "batcher").mkdir(parents=True, exist_ok=True)
        self._processes["batcher"] = await Process.start(self._gateway.batcher_part(), clock=SystemClock())
        await self.registry.start()
        await self.start_router()
        await self.start_gateway()
        await eventually(self.serves, what="the gateway tells callers apart", timeout_s=TIMEOUT_S)

    async def serves(self) -> bool:
        """Whether the gateway refuses those without a key."""
        return await self.status(None) == 401

    async def stop(self) -> None:
        """Everything."""
        for process in self._processes.values():
            await process.stop()
        await self.stop_router()
        await self.registry.stop()


@asynccontextmanager
async def guarded_mesh(around: Surroundings, folder: Path, *, tls: Path | None = None) -> AsyncIterator[GuardedMesh]:
    """One that runs. `tls`: the folder with the certificate that its gateway shows; None: it speaks without TLS."""
    mesh = GuardedMesh(around, folder, tls)
    try:
        await mesh.start()
        yield mesh
    finally:
        await mesh.stop()
