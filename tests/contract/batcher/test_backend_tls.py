"""Somebody else's model servers over TLS: each client is answered by the right server, and speaks to no other."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from services.batcher.adapters.backend_clients import open_client
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.serving import Backend, Protocol
from services.common.outside_tls import OutsideTls
from services.common.server_address import GRPCS, HTTPS
from tests.contract.batcher.externals import EXTERNAL, Servers, started
from tests.support.batcher_engine_server import SHAPE, Got
from tests.support.model_servers import ServerProcess
from tests.support.tls_relay import tls_relay


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One of each for all tests."""
    yield from started(tmp_path_factory)


@pytest.fixture(params=EXTERNAL)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    made: Protocol = request.param
    return made


@pytest.fixture
def server(protocol: Protocol, servers: Servers) -> ServerProcess:
    return servers(protocol)


def port_of(server: ServerProcess, protocol: Protocol) -> int:
    return server.grpc_port if protocol.over_grpc else server.rest_port


def at(server: ServerProcess, protocol: Protocol, port: int, host: str = "127.0.0.1") -> Backend:
    """The place on a server, behind TLS at that port."""
    address = f"{GRPCS if protocol.over_grpc else HTTPS}{host}:{port}"
    over_grpc, rest = (address, "") if protocol.over_grpc else ("", address)
    return replace(server.backend(protocol), http_address=rest, grpc_address=over_grpc)


async def told(place: Backend, authority: str, *numbers: int) -> list[int | BackendFailure]:
    """What "m" gives back for numbers that are sent at once, and that it is ready exactly if it answers."""
    client = open_client(place, tls=OutsideTls(authority))
    waiting = []
    for number in numbers:
        got = Got()
        client.prepare(SHAPE, backend=place).send(1, [8], [number.to_bytes(8, "little", signed=True)], got)
        waiting.append(got.future)
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    answered = not any(isinstance(one, BackendFailure) for one in answers)
    assert await client.ready() is answered
    await client.close()
    return [
        one if isinstance(one, BackendFailure) else int.from_bytes(one[0].data, "little", signed=True)
        for one in answers
    ]


async def refused(place: Backend, authority: str) -> str:
    (failure,) = await told(place, authority, 1)
    assert isinstance(failure, BackendFailure)
    assert failure.kind is FailureKind.UNREACHABLE
    return failure.message


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_batches_go_and_come_by_tls(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, server: ServerProcess, protocol: Protocol
) -> None:
    numbers = list(range(20))
    with (
        tls_relay(tmp_path, port_of(server, protocol)) as relay,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        assert runner.run(told(at(server, protocol, relay.port), relay.authority, *numbers)) == numbers
        if not protocol.over_grpc:
            host = f"\r\nHost: 127.0.0.1:{relay.port}\r\n".encode()
            assert all(host in head for head in relay.heads), "the host is named without the scheme"


async def test_another_authority_is_not_believed(tmp_path: Path, server: ServerProcess, protocol: Protocol) -> None:
    with (
        tls_relay(tmp_path / "a", port_of(server, protocol)) as relay,
        tls_relay(tmp_path / "b", port_of(server, protocol)) as other,
    ):
        for authority in (other.authority, ""):
            said = await refused(at(server, protocol, relay.port), authority)
            assert "authority that is not believed here; add that to the file of INFERMESH_EXTERNAL_CA" in said
        assert relay.heads == [], "nothing was sent to it"


async def test_a_certificate_for_another_host_is_not_believed(
    tmp_path: Path, server: ServerProcess, protocol: Protocol
) -> None:
    with tls_relay(tmp_path, port_of(server, protocol), hosts=("models.example", "127.0.0.2")) as relay:
        for host in ("127.0.0.1", "localhost"):
            said = await refused(at(server, protocol, relay.port, host), relay.authority)
            assert "a certificate for another host; name it by a host that its certificate has" in said
        assert relay.heads == []


async def test_a_server_without_tls_is_not_spoken_to(tmp_path: Path, server: ServerProcess, protocol: Protocol) -> None:
    port = port_of(server, protocol)
    with tls_relay(tmp_path, port) as relay:
        assert "TLS" in await refused(at(server, protocol, port), relay.authority)


async def test_a_server_that_is_not_there_is_unreachable_by_tls_too(
    tmp_path: Path, server: ServerProcess, protocol: Protocol
) -> None:
    with tls_relay(tmp_path, port_of(server, protocol)) as relay:
        gone, authority = at(server, protocol, relay.port), relay.authority
    said = await refused(gone, authority)
    assert "certificate" not in said
