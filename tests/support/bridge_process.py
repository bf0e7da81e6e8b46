"""The bridge's own site in a real Envoy, for tests that need no batcher."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from tests.support.batcher_faces_calls import address_of
from tests.support.batcher_faces_process import batcher_part
from tests.support.parts import running
from tests.support.waiting import eventually

SITE = "tests.support.bridge_site:"
IDLE = {"tasks": 0, "requests": 0, "exchanges": 0, "waiting": 0}
"""What the site keeps when nobody is there."""


@dataclass(frozen=True)
class Hosted:
    """A site that is ready."""

    address: str
    process: Process
    part: Part

    def client(self) -> httpx.AsyncClient:
        """Asks over HTTP/1.1."""
        return httpx.AsyncClient(base_url=f"http://{self.address}", trust_env=False, timeout=20)

    async def post(self, path: str) -> None:
        """Asks for what a path does."""
        async with self.client() as client:
            assert (await client.post(path)).status_code == 200

    async def kept(self) -> dict[str, int]:
        """What the site keeps now."""
        async with self.client() as client:
            kept: dict[str, int] = (await client.get("/kept")).json()
        return kept

    async def allocated(self) -> int:
        """Bytes that the process has allocated outside Python, the bridge's among them."""
        socket = Path(self.part.env["INFERMESH_BATCHER_DATA_DIR"]) / "envoy.sock"
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket))) as client:
            return int((await client.get("http://envoy/memory")).json()["allocated"])

    async def waits_for(self, **counts: int) -> dict[str, int]:
        """Until the site keeps so many; nothing of callers where nothing is said."""
        wanted = counts or IDLE

        async def reached() -> dict[str, int]:
            kept = await self.kept()
            assert {name: kept[name] for name in wanted} == wanted
            return kept

        return await eventually(reached, what=f"the site keeps {wanted}")


def site_part(folder: Path, name: str = "Plain", *, settings: Mapping[str, object] | None = None) -> Part:
    """The site as a part, not started."""
    return batcher_part(folder, application=SITE + name, settings=settings)


@asynccontextmanager
async def hosted(folder: Path) -> AsyncIterator[Hosted]:
    """Starts one."""
    part = site_part(folder)
    async with running(part) as process:
        yield Hosted(address_of(part), process, part)
