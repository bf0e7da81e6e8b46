"""External servers over TLS: proven and observed like any other, and told apart from whoever stands in for them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.common.outside_tls import OutsideTls
from services.deployer.adapters.external import open_external
from services.deployer.domain.external import ExternalBackend, Protocol
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import check_answer, trial_inputs
from services.deployer.ports import ExternalServer
from tests.contract.deployer.test_external_servers import MAKERS, NAME, READY
from tests.support.model_servers import MIX, ServerProcess
from tests.support.tls_relay import tls_relay
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[object, ServerProcess]]:
    made: dict[object, ServerProcess] = {}
    yield made
    for process in made.values():
        process.kill()


@pytest.fixture(params=MAKERS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    made: Protocol = request.param
    return made


@pytest.fixture
def port(protocol: Protocol, processes: dict[object, ServerProcess], tmp_path_factory: pytest.TempPathFactory) -> int:
    """Where a real server of the protocol listens, without TLS. Each is started when it is first asked for."""
    make = MAKERS[protocol]
    if make not in processes:
        processes[make] = make(tmp_path_factory.mktemp(make.__name__))
        processes[make].start()
    process = processes[make]
    return process.grpc_port if protocol.over_grpc else process.rest_port


@asynccontextmanager
async def opened(
    protocol: Protocol, port: int, authority: str, host: str = "127.0.0.1"
) -> AsyncIterator[ExternalServer]:
    address = f"{protocol.scheme}{host}:{port}"
    external = ExternalBackend(protocol, (address,))
    server = open_external(
        external, address, model_name="mix", name=NAME, schema=MIX, team="", tls=OutsideTls(authority)
    )
    yield server
    await server.close()


async def _seen(server: ExternalServer) -> bool:
    # On a busy machine a look may be over before the handshake is.
    return await server.observe() == ServerState(up=True)


async def refused(server: ExternalServer) -> str:
    """It is seen to be there, so that it is asked to load, and then people are told; nothing is asked of it."""
    await eventually(lambda: _seen(server), what="it is seen to answer")
    words = set()
    for call in (server.load(NAME), server.schema(), server.infer(NAME, trial_inputs(MIX, 2))):
        with pytest.raises(MeshError) as error:
            await call
        assert error.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        words.add(error.value.message)
    (said,) = words
    return said


async def test_it_is_proven_over_tls_and_was_lost_when_it_is_away(
    tmp_path: Path, protocol: Protocol, port: int
) -> None:
    with tls_relay(tmp_path, port) as relay:
        async with opened(protocol, relay.port, relay.authority) as server:
            await server.load(NAME)
            check_answer(MIX, 2, await server.infer(NAME, trial_inputs(MIX, 2)))
            assert await server.observe() == READY
            assert server.place.server_id == f"{protocol.scheme}127.0.0.1:{relay.port}"
            relay.end()
            assert await server.observe() == ServerState()


async def test_another_authority_is_not_believed(tmp_path: Path, protocol: Protocol, port: int) -> None:
    with tls_relay(tmp_path / "a", port) as relay, tls_relay(tmp_path / "b", port) as other:
        for authority in (other.authority, ""):
            async with opened(protocol, relay.port, authority) as server:
                said = await refused(server)
                assert f"{protocol.scheme}127.0.0.1:{relay.port}" in said
                assert "authority that is not believed here; add that to the file of INFERMESH_EXTERNAL_CA" in said
        assert relay.heads == [], "nothing was sent to it"


async def test_a_certificate_for_another_host_is_not_believed(tmp_path: Path, protocol: Protocol, port: int) -> None:
    with tls_relay(tmp_path, port, hosts=("models.example", "127.0.0.2")) as relay:
        for host in ("127.0.0.1", "localhost"):
            async with opened(protocol, relay.port, relay.authority, host) as server:
                assert "another host; name it by a host that its certificate has" in await refused(server)
        assert relay.heads == []


async def test_a_server_without_tls_is_not_spoken_to(tmp_path: Path, protocol: Protocol, port: int) -> None:
    with tls_relay(tmp_path, port) as relay:
        async with opened(protocol, port, relay.authority) as server:
            with pytest.raises(MeshError, match="TLS") as error:
                await server.load(NAME)
            assert error.value.reason is Reason.DEPENDENCY_UNAVAILABLE
