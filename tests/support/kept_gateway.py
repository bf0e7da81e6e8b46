"""A gateway with its keeper between it and the router, as `make run` has it; each may be killed and come back."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson

from services.common.clock import SystemClock
from services.router.domain.routing import ModelRoutes
from services.supervisor.parts.envoy import envoy_part
from services.supervisor.parts.keeper import keeper_part
from services.supervisor.parts.part import Part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from tests.support.envoy_gateway import Gateway


class KeptGateway(Gateway):
    """A gateway that dials its keeper, and the keeper the router."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(folder, loop)
        self.keeper_port = free_ports(1)[0]
        self.keeper_settings: dict[str, object] = {"patience_s": 1.0}
        self.keeper: Process

    async def start(self, *, publish: Sequence[ModelRoutes] | None = ()) -> None:
        """Starts the keeper, then everything else."""
        self.kept_dir.parent.mkdir(parents=True, exist_ok=True)
        self.keeper = await self.start_part(self.keeper_part())
        await super().start(publish=publish)

    @property
    def kept_dir(self) -> Path:
        """Where configurations are kept."""
        return self._folder / "kept"

    @property
    def kept_file(self) -> Path:
        """This gateway's."""
        [file] = self.kept_dir.glob("*.bin")
        return file

    def kept_versions(self) -> dict[str, str]:
        """What is on disk, by the short names of types."""
        if not list(self.kept_dir.glob("*.bin")):
            return {}
        head = orjson.loads(self.kept_file.read_bytes().split(b"\n", 1)[1][32:].split(b"\n", 1)[0])
        return {type_url.rpartition(".")[2]: item["version"] for type_url, item in head["types"].items()}

    def keeper_log(self) -> list[dict[str, Any]]:
        """What the keeper has said.

        After it has stopped, gRPC may print a traceback of a call that came the moment its server ended.
        """
        said: list[dict[str, Any]] = []
        for line in (self._folder / "keeper.log").read_bytes().splitlines():
            if line.startswith(b"{") or not said or said[-1]["event"] != "stopped":
                said.append(orjson.loads(line))
        return said

    def keeper_part(self) -> Part:
        """The keeper's process."""
        return keeper_part(
            port=self.keeper_port,
            router_address=f"127.0.0.1:{self.ads_port}",
            data_dir=self.kept_dir,
            layout="test",
            work_dir=self._folder,
            log_path=self._folder / "keeper.log",
            more=self.keeper_settings,
        )

    def envoy_part(self) -> Part:
        """The gateway's process."""
        return envoy_part(
            gateway_port=self.port,
            admin_port=self.admin_port,
            ads_address=f"127.0.0.1:{self.keeper_port}",
            work_dir=self._folder / "envoy",
            log_path=self._folder / "gateway.log",
        )

    async def kill_envoy(self) -> None:
        """Without a word."""
        await _kill(self.envoy)

    async def kill_keeper(self) -> None:
        """Without a word."""
        await _kill(self.keeper)

    async def start_envoy(self, *, wait: bool = True) -> None:
        """A new process; with `wait`, once it serves."""
        if wait:
            self.envoy = await self.start_part(self.envoy_part())
            return
        self.envoy = await Process.start(self.envoy_part(), clock=SystemClock())
        self._stack.push_async_callback(self.envoy.stop)

    async def start_keeper(self) -> None:
        """A new process, over the same disk."""
        self.keeper = await self.start_part(self.keeper_part())

    def listeners(self) -> dict[str, int]:
        """How many listeners Envoy has added, and how many it has made anew."""
        return self.stats("listener_manager.listener_(added|modified|in_place_updated|removed)$")

    def dialled(self) -> int:
        """Whether Envoy has a stream now: 0 or 1."""
        return self.stats("control_plane.connected_state$")["control_plane.connected_state"]

    def text_stats(self, prefix: str) -> dict[str, str]:
        """Envoy's own texts that begin with `prefix`: versions of resources."""
        answer = httpx.get(
            f"http://127.0.0.1:{self.admin_port}/stats?type=TextReadouts&filter=^{prefix}", trust_env=False
        )
        pairs = (line.partition(": ") for line in answer.text.splitlines())
        return {name: value for name, _, value in pairs}


async def _kill(process: Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
