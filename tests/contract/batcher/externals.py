"""Somebody else's model servers for the tests of the clients that speak to them."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from services.batcher.adapters.backend_clients import open_client
from services.batcher.domain.serving import Protocol
from services.batcher.ports import BackendClient
from tests.support.model_servers import ServerProcess, mlserver, tensorflow, torchserve

EXTERNAL: Mapping[Protocol, Callable[..., ServerProcess]] = {
    Protocol.OIP_REST: mlserver,
    Protocol.OIP_GRPC: mlserver,
    Protocol.TENSORFLOW_REST: tensorflow,
    Protocol.TENSORFLOW_GRPC: tensorflow,
    Protocol.TORCHSERVE: torchserve,
}
Servers = Callable[[Protocol], ServerProcess]


def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Each server is started when it is first asked for, and is one for all who ask."""
    made: dict[object, ServerProcess] = {}

    def get(protocol: Protocol) -> ServerProcess:
        make = EXTERNAL[protocol]
        if make not in made:
            made[make] = make(tmp_path_factory.mktemp(make.__name__))
            made[make].start()
        return made[make]

    yield get
    for server in made.values():
        server.kill()


class ExternalStage:
    """Such a server with a client, by one of its protocols."""

    def __init__(self, server: ServerProcess, protocol: Protocol) -> None:
        self._server = server
        self._before = server.taken
        self.client: BackendClient = open_client(server.backend(protocol))
        self._running = True

    async def start(self) -> None:
        """Starts it, where it does not run."""
        if not self._running:
            self._server.start()
            self._running = True

    async def stop(self) -> None:
        """Kills it."""
        if self._running:
            self._server.kill()
            self._running = False

    def hold(self) -> None:
        """Has it answer nothing from now on."""
        self._before = self._server.taken
        self._server.hold()

    def taken(self) -> int:
        """How many batches have come since then."""
        return self._server.taken - self._before
