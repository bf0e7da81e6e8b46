"""The model servers that batches go to: one client each, and whoever is down is asked until it answers again.

One server runs many versions, so whether it is down is known once for all of them, and one probe asks, with pauses that
double, however many requests wait. A server that keeps a batch unusually long is asked too: one that is stopped or cut
off closes no connection, and silence is all that is seen of it.
"""

import asyncio
from collections.abc import Callable, Collection
from math import inf

from services.batcher.domain.places import Place, ServerState
from services.batcher.domain.serving import Backend
from services.batcher.engines.options import EngineOptions
from services.batcher.ports import BackendClient, BackendClientFactory
from services.common.clock import Clock
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_DOUBT_EVERY_S = 1.0


class Server(ServerState):
    """A server and how to reach it."""

    __slots__ = ("client", "doubted_s")

    def __init__(self, address: str, client: BackendClient) -> None:
        super().__init__(address)
        self.client = client
        self.doubted_s = -inf
        """When it was last asked because it had let somebody down."""


def server_of(place: Place) -> Server:
    """The server of a place that the engine made."""
    assert isinstance(place.server, Server)
    return place.server


class Servers:
    """All servers that are named by what is served. `on_up` is called when one answers again, `on_silent` when one was
    asked and did not answer."""

    def __init__(
        self,
        *,
        clock: Clock,
        open_client: BackendClientFactory,
        options: EngineOptions,
        on_up: Callable[[Server], None],
        on_silent: Callable[[Server], None],
    ) -> None:
        self._clock = clock
        self._open_client = open_client
        self._options = options
        self._on_up = on_up
        self._on_silent = on_silent
        self._servers: dict[str, Server] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> Collection[str]:
        """The servers that are known."""
        return self._servers.keys()

    def of(self, backend: Backend) -> Server:
        """The backend's server; known from now on."""
        address = backend.server
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = Server(address, self._open_client(backend))
        server.leaving = False
        return server

    def lost(self, server: Server) -> None:
        """A connection failed: nothing goes there until it answers a probe."""
        if server.up and self._ask(server):
            server.fell(self._clock.monotonic())
            log.warning("a model server does not answer", server=server.address)

    def suspect(self, server: Server) -> None:
        """It takes very long over a batch: perhaps the model does, perhaps the server is gone. It is asked."""
        if server.up:
            self._ask(server)

    def doubt(self, server: Server) -> None:
        """It let all callers of a batch down. That says little where they had little time, so it is asked, and at most
        once a second: else a server that hangs would look merely slow to callers who never wait long."""
        now_s = self._clock.monotonic()
        if now_s >= server.doubted_s + _DOUBT_EVERY_S:
            server.doubted_s = now_s
            self.suspect(server)

    def retire(self, address: str) -> None:
        """Nothing names the server any more: it is forgotten as soon as it has finished what it was given."""
        server = self._servers[address]
        server.leaving = True
        if not server.batches:
            self.forget(address)

    def forget(self, address: str) -> None:
        """Closes the client of a server that nothing names any more."""
        server = self._servers.pop(address, None)
        if server is None:
            return
        self._stop_probe(address)
        task = asyncio.get_running_loop().create_task(server.client.close(), name=f"close {address}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Stops the probes and closes every client."""
        probes = list(self._probes.values())
        for address in list(self._servers):
            self.forget(address)
        await asyncio.gather(*probes, *self._closing, return_exceptions=True)

    def _ask(self, server: Server) -> bool:
        """Has a probe run. False where the server is none of ours any more."""
        if self._servers.get(server.address) is not server:
            return False
        if server.address not in self._probes:
            task = asyncio.get_running_loop().create_task(self._probe(server), name=f"probe {server.address}")
            self._probes[server.address] = task
        return True

    def _stop_probe(self, address: str) -> None:
        task = self._probes.pop(address, None)
        if task is not None:
            task.cancel()

    async def _probe(self, server: Server) -> None:
        delay_s = self._options.probe_delay_min_s
        silent = False
        while not await server.client.ready():
            if not silent:
                silent = True
                if server.up:
                    server.fell(self._clock.monotonic())
                    log.warning("a model server has fallen silent", server=server.address)
                self._on_silent(server)
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, self._options.probe_delay_max_s)
        del self._probes[server.address]
        if not server.up:
            server.rose(self._clock.monotonic())
            log.info("a model server answers again", server=server.address)
            self._on_up(server)
