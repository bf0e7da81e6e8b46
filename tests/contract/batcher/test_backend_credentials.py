"""Tokens that batches show to others' servers: the team's own, over TLS alone, and told to nobody."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.batcher.adapters.backend_clients import open_client
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.serving import Backend, Protocol
from services.batcher.ports import BackendClient
from services.common.outside_credentials import Credentials
from services.common.outside_tls import OutsideTls
from services.common.server_address import GRPCS, HTTPS
from tests.support.batcher_engine_server import SHAPE, Got
from tests.support.token_servers import TokenServer, token_server

TOKEN = "t0ken-of-vision"
EXTERNAL = [protocol for protocol in Protocol if protocol is not Protocol.MESH]


@pytest.fixture(params=EXTERNAL)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    made: Protocol = request.param
    return made


@pytest.fixture
async def server(tmp_path: Path, protocol: Protocol) -> AsyncIterator[TokenServer]:
    async with token_server(tmp_path / "server", over_grpc=protocol.over_grpc, token=TOKEN) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for team, token in (("vision", TOKEN), ("fraud", "t0ken-of-fraud")):
        (tmp_path / "kept" / team).mkdir(parents=True)
        (tmp_path / "kept" / team / "server").write_text(token)
    return tmp_path / "kept"


def place(server: TokenServer, protocol: Protocol, credentials: str, *, scheme: bool = True) -> Backend:
    word = (GRPCS if protocol.over_grpc else HTTPS) if scheme else ""
    address = f"{word}127.0.0.1:{server.port}"
    rest, over_grpc = ("", address) if protocol.over_grpc else (address, "")
    return Backend("a", rest, over_grpc, "m", protocol=protocol, credentials=credentials)


async def failure_of(client: BackendClient, backend: Backend) -> BackendFailure:
    got = Got()
    client.prepare(SHAPE, backend=backend).send(1, [8], [b"12345678"], got)
    assert not got.future.done(), "nobody is called before the sender knows what it sent"
    told = await asyncio.wait_for(got.future, 10)
    assert isinstance(told, BackendFailure)
    return told


async def test_every_call_shows_the_token_and_whoever_shows_another_is_told_without_it(
    server: TokenServer, protocol: Protocol, folder: Path
) -> None:
    for credentials, kind in (("vision/server", FailureKind.MODEL), ("fraud/server", FailureKind.MISSING)):
        backend = place(server, protocol, credentials)
        client = open_client(backend, tls=OutsideTls(server.authority), credentials=Credentials(str(folder)))
        failures = [await failure_of(client, backend) for _ in range(3)]
        await client.ready()
        await client.close()
        assert {failure.kind for failure in failures} == {kind}
        token = (folder / credentials).read_text()
        assert {*server.shown} == {f"Bearer {token}"}
        assert not any("t0ken" in failure.message for failure in failures), failures
        assert ("[credential]" in failures[0].message) is (kind is FailureKind.MISSING)
        server.shown.clear()


async def test_a_token_that_is_renewed_is_shown_from_the_next_batch_on(
    server: TokenServer, protocol: Protocol, folder: Path
) -> None:
    backend = place(server, protocol, "vision/server")
    client = open_client(backend, tls=OutsideTls(server.authority), credentials=Credentials(str(folder)))
    assert (await failure_of(client, backend)).kind is FailureKind.MODEL
    server.token = "another"
    assert (await failure_of(client, backend)).kind is FailureKind.MISSING
    (folder / "vision" / "server").write_text("another")
    assert (await failure_of(client, backend)).kind is FailureKind.MODEL
    await client.close()


async def test_what_cannot_be_shown_keeps_the_batch_here(server: TokenServer, protocol: Protocol, folder: Path) -> None:
    for credentials, words in (("vision/none", "put the token into the file 'vision/none'"), ("../x/y", "cannot name")):
        backend = place(server, protocol, credentials)
        client = open_client(backend, tls=OutsideTls(server.authority), credentials=Credentials(str(folder)))
        failure = await failure_of(client, backend)
        assert failure.kind is FailureKind.UNREACHABLE
        assert words in failure.message
        assert not await client.ready()
        await client.close()
    assert server.shown == []


async def test_it_is_not_shown_without_tls(server: TokenServer, protocol: Protocol, folder: Path) -> None:
    backend = place(server, protocol, "vision/server", scheme=False)
    client = open_client(backend, tls=OutsideTls(server.authority), credentials=Credentials(str(folder)))
    assert "by TLS alone" in (await failure_of(client, backend)).message
    await client.close()
    assert server.shown == []


def test_teams_that_show_other_tokens_share_no_connection() -> None:
    made = TokenServer("", port=1)
    words = {place(made, Protocol.OIP_REST, name).server for name in ("vision/server", "fraud/server", "")}
    assert len(words) == 3
