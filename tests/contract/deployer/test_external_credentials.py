"""Tokens that the deployer shows to external servers: with every question, over TLS alone, and told to nobody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.common.outside_credentials import Credentials
from services.common.outside_tls import OutsideTls
from services.deployer.adapters.external import open_external
from services.deployer.domain.external import ExternalBackend, Protocol
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import trial_inputs
from services.deployer.ports import ExternalServer
from tests.support.model_servers import MIX
from tests.support.token_servers import TokenServer, token_server

TOKEN = "t0ken-of-vision"


@pytest.fixture(params=list(Protocol))
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


@asynccontextmanager
async def opened(
    server: TokenServer, protocol: Protocol, folder: Path, *, team: str, name: str = "server", scheme: bool = True
) -> AsyncIterator[ExternalServer]:
    address = f"{protocol.scheme if scheme else ''}127.0.0.1:{server.port}"
    made = open_external(
        ExternalBackend(protocol, (address,), credentials=name),
        address,
        model_name="mix",
        name="mix--v1",
        schema=MIX,
        team=team,
        tls=OutsideTls(server.authority),
        credentials=Credentials(str(folder)),
    )
    yield made
    await made.close()


async def refusals(server: ExternalServer) -> list[MeshError]:
    """How each question ends."""
    await server.observe()
    await server.software()
    found = []
    for call in (server.load("mix--v1"), server.schema(), server.infer("mix--v1", trial_inputs(MIX, 2))):
        try:
            await call
        except MeshError as error:
            found.append(error)
    return found


@pytest.mark.parametrize("team", ["vision", "fraud"])
async def test_every_question_shows_the_teams_own(
    server: TokenServer, protocol: Protocol, folder: Path, team: str
) -> None:
    async with opened(server, protocol, folder, team=team) as outside:
        found = await refusals(outside)
    assert {*server.shown} == {f"Bearer {(folder / team / 'server').read_text()}"}
    assert len(server.shown) >= 4
    assert not any("t0ken" in error.message for error in found)
    if team == "fraud" and protocol is not Protocol.TORCHSERVE:
        assert found[0].reason is Reason.LOAD_FAILED
        assert "[credential]" in found[0].message
        assert "name a token that it takes in external_backend.credentials" in found[0].message


async def test_without_the_token_nothing_is_asked_and_people_are_told(
    server: TokenServer, protocol: Protocol, folder: Path
) -> None:
    async with opened(server, protocol, folder, team="vision", name="none") as outside:
        assert await outside.observe() == ServerState(up=True), "it is asked to load, which tells"
        found = await refusals(outside)
    assert {error.reason for error in found} == {Reason.DEPENDENCY_UNAVAILABLE}
    assert "put the token into the file 'vision/none' of the folder INFERMESH_EXTERNAL_CREDENTIALS" in found[0].message
    async with opened(server, protocol, folder, team="vision", scheme=False) as outside:
        assert "by TLS alone" in (await refusals(outside))[0].message
    assert server.shown == []
