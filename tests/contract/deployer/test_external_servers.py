"""What the deployer relies on in a server that somebody else runs: the same of every protocol, against real servers."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from services.batcher.domain.serving import Protocol as Spoken
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.adapters.external import open_external
from services.deployer.domain.external import ExternalBackend, Protocol
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import check_answer, trial_inputs
from services.deployer.ports import ExternalServer
from tests.support.model_servers import ECHO, MIX, ServerProcess, mlserver, tensorflow, torchserve
from tests.support.parts import free_port

NAME = "mix--v1.0.0"
READY = ServerState(up=True, ready=frozenset({NAME}))
MAKERS: dict[Protocol, Callable[..., ServerProcess]] = {
    Protocol.OIP_REST: mlserver,
    Protocol.OIP_GRPC: mlserver,
    Protocol.TENSORFLOW_REST: tensorflow,
    Protocol.TENSORFLOW_GRPC: tensorflow,
    Protocol.TORCHSERVE: torchserve,
}


@dataclass
class Outside:
    """A server, and clients of it."""

    protocol: Protocol
    process: ServerProcess
    opened: list[ExternalServer]

    @property
    def external(self) -> ExternalBackend:
        backend = self.process.backend(Spoken(self.protocol.value))
        return ExternalBackend(self.protocol, (backend.address,))

    def open(
        self,
        schema: ModelSchema | None = MIX,
        *,
        server_model_name: str = "",
        server_model_version: str = "",
        signature_name: str = "",
    ) -> ExternalServer:
        external = replace(
            self.external,
            server_model_name=server_model_name,
            server_model_version=server_model_version,
            signature_name=signature_name,
        )
        server = open_external(external, external.addresses[0], model_name="mix", name=NAME, schema=schema, team="")
        self.opened.append(server)
        return server


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Protocol], ServerProcess]]:
    """Each is started when it is first asked for."""
    made: dict[object, ServerProcess] = {}

    def get(protocol: Protocol) -> ServerProcess:
        make = MAKERS[protocol]
        if make not in made:
            made[make] = make(tmp_path_factory.mktemp(make.__name__))
            made[make].start()
        return made[make]

    yield get
    for process in made.values():
        process.kill()


@pytest.fixture(params=MAKERS)
async def outside(
    request: pytest.FixtureRequest, processes: Callable[[Protocol], ServerProcess]
) -> AsyncIterator[Outside]:
    made = Outside(request.param, processes(request.param), [])
    yield made
    for server in made.opened:
        await server.close()


async def test_it_is_proven_and_from_then_on_ready_until_it_is_let_go(outside: Outside) -> None:
    server = outside.open()
    await server.load(NAME)
    check_answer(MIX, 2, await server.infer(NAME, trial_inputs(MIX, 2)))
    assert await server.observe() == READY
    assert server.place.server_id == outside.external.addresses[0]
    assert await server.software()
    await server.unload(NAME)
    assert await server.observe() == ServerState(up=True)
    await server.load(NAME)
    assert await server.observe() == READY


async def test_it_states_what_its_model_takes_and_gives(outside: Outside) -> None:
    stated = await outside.open(None).schema()
    if outside.protocol is Protocol.TORCHSERVE:
        assert stated is None
        return
    assert stated is not None
    # A signature of TensorFlow has no order of its own.
    by_name = outside.protocol.of_tensorflow
    expected = ModelSchema(
        tuple(sorted(MIX.inputs, key=lambda one: one.name)), tuple(sorted(MIX.outputs, key=lambda one: one.name))
    )
    assert stated == (expected if by_name else MIX)


async def test_another_model_than_the_version_is_refused_with_all_that_differs(outside: Outside) -> None:
    if outside.protocol is Protocol.TORCHSERVE:
        with pytest.raises(MeshError) as refused:
            await outside.open(ECHO, server_model_name="mix").infer(NAME, trial_inputs(ECHO, 2))
        assert refused.value.reason is Reason.WARMUP_FAILED
        return
    inputs = (TensorSpec("numbers", DataType.FP64, (3,)), TensorSpec("age", DataType.FP32))
    other = ModelSchema(inputs, (TensorSpec("total", DataType.FP32, (2,)),))
    with pytest.raises(MeshError) as refused:
        await outside.open(other).load(NAME)
    assert refused.value.reason is Reason.SCHEMA_MISMATCH
    for words in (
        "input 'numbers' is FP32 where the version has FP64",
        "it has no input 'age', but numbers, word",
        "it takes input 'word' too",
        "output 'total' has rows of shape [] where the version has [2]",
        "server_model_name",
    ):
        assert words in refused.value.message


async def test_a_model_that_it_does_not_have_is_refused_by_name(outside: Outside) -> None:
    servers = [outside.open(server_model_name="none")]
    if outside.protocol is not Protocol.OIP_REST and outside.protocol is not Protocol.OIP_GRPC:
        servers.append(outside.open(server_model_version="77"))
    if outside.protocol.of_tensorflow:
        servers += [outside.open(signature_name="other"), outside.open(server_model_version="stable")]
    for server in servers:
        with pytest.raises(MeshError) as refused:
            await server.load(NAME)
        assert refused.value.reason is Reason.LOAD_FAILED
        assert outside.external.addresses[0] in refused.value.message


async def test_one_that_was_away_is_proven_anew(outside: Outside) -> None:
    server, other = outside.open(), outside.open()
    await server.load(NAME)
    # What takes long to start is only stopped for a while.
    restarts = MAKERS[outside.protocol] is mlserver
    (outside.process.kill if restarts else outside.process.pause)()
    assert await server.observe() == ServerState()
    with pytest.raises(MeshError) as away:
        await server.load(NAME)
    assert away.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    (outside.process.start if restarts else outside.process.resume)()
    assert await server.observe() == ServerState(up=True)
    assert await other.observe() == READY, "whoever has not seen it away believes what was proven before"
    await server.load(NAME)
    assert await server.observe() == READY


async def test_what_speaks_another_protocol_is_no_such_server(outside: Outside) -> None:
    others = {
        Protocol.OIP_REST: Protocol.TORCHSERVE,
        Protocol.OIP_GRPC: Protocol.TENSORFLOW_GRPC,
        Protocol.TENSORFLOW_REST: Protocol.OIP_REST,
        Protocol.TENSORFLOW_GRPC: Protocol.OIP_GRPC,
        Protocol.TORCHSERVE: Protocol.TENSORFLOW_REST,
    }
    external = replace(outside.external, protocol=others[outside.protocol])
    server = open_external(external, external.addresses[0], model_name="mix", name=NAME, schema=MIX, team="")
    assert NAME not in (await server.observe()).ready
    with pytest.raises(MeshError) as refused:
        await server.load(NAME)
    assert refused.value.reason is Reason.LOAD_FAILED
    await server.close()


@pytest.mark.parametrize("protocol", list(Protocol))
async def test_an_address_where_nobody_is(protocol: Protocol) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = open_external(
        ExternalBackend(protocol, (address,)), address, model_name="m", name=NAME, schema=MIX, team=""
    )
    assert await server.observe() == ServerState()
    for call in (server.schema(), server.load(NAME), server.infer(NAME, trial_inputs(MIX, 2))):
        with pytest.raises(MeshError) as away:
            await call
        assert away.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert address in away.value.message
    await server.close()
