"""What the engine relies on in a client of a model server: the same of the real one and of the fake."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol as Described

import pytest
from pytest import approx  # noqa: PT013 - read as a word

from services.batcher.adapters.backend_clients import open_client
from services.batcher.adapters.grpc_client import GrpcClient
from services.batcher.adapters.triton import TritonClient
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.rows import check_outputs
from services.batcher.domain.serving import Backend, Protocol, ServedVersion
from services.batcher.domain.shape import CallShape, InputShape, row_bytes_of
from services.batcher.domain.tensors import Value, pack, pack_bytes, unpack
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.batcher.ports import BackendClient
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType
from tests.contract.batcher.externals import EXTERNAL, ExternalStage, Servers, started
from tests.support.batcher_engine_fakes import FakeServer
from tests.support.batcher_engine_server import BACKEND, SHAPE, Got, Server
from tests.support.model_servers import ECHO, MIX, UNWELCOME, ServerProcess
from tests.support.waiting import eventually


class Stage(Described):
    """A server with its client."""

    client: BackendClient

    async def stop(self) -> None: ...
    async def start(self) -> None: ...
    def hold(self) -> None: ...
    def taken(self) -> int: ...


class RealStage:
    """Over TCP."""

    def __init__(self) -> None:
        self._server = Server()
        self._kept: list[bytes] = []
        self.client: BackendClient = TritonClient(f"127.0.0.1:{self._server.port}")

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    def hold(self) -> None:
        async def keep(data: bytes, writer: asyncio.StreamWriter) -> None:
            self._kept.append(data)

        self._server.behave = keep

    def taken(self) -> int:
        return self._server.requests


class FakeStage:
    """In memory."""

    def __init__(self) -> None:
        self._server = FakeServer("a:1", latency_s=0.001, answer=lambda rows, data: [_y(rows, data)])
        self.client: BackendClient = self._server

    async def start(self) -> None:
        self._server.down = False

    async def stop(self) -> None:
        self._server.down = True

    def hold(self) -> None:
        self._server.held = True

    def taken(self) -> int:
        return len(self._server.sent)


def _y(rows: int, data: bytes) -> Tensor:
    return Tensor("y", DataType.INT64, (rows,), data)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One of each for all tests."""
    yield from started(tmp_path_factory)


@pytest.fixture(params=["real", "fake", *EXTERNAL])
async def stage(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Stage]:
    if request.param in {"real", "fake"}:
        made: Stage = RealStage() if request.param == "real" else FakeStage()
        await made.start()
        yield made
        await made.client.close()
        await made.stop()
        return
    server = servers(request.param)
    external = ExternalStage(server, request.param)
    yield external
    await external.client.close()
    server.release()
    await external.start()


TENSORFLOW = (Protocol.TENSORFLOW_REST, Protocol.TENSORFLOW_GRPC)


@dataclass
class External:
    """One server and a client of it."""

    protocol: Protocol
    server: ServerProcess
    client: BackendClient

    async def ask(self, place: Backend, number: int) -> int | BackendFailure:
        """What "m" gives back for a number."""
        got = Got()
        self.client.prepare(SHAPE, backend=place).send(1, [8], [number.to_bytes(8, "little", signed=True)], got)
        told = await asyncio.wait_for(got.future, 10)
        return told if isinstance(told, BackendFailure) else int.from_bytes(told[0].data, "little", signed=True)

    async def mix(self, numbers: Sequence[float], words: Sequence[bytes]) -> dict[str, list[Value]] | BackendFailure:
        """The outputs of "mix", flat."""
        inputs = tuple(
            InputShape(one.name, one.data_type, one.shape, row_bytes_of(one.data_type, one.shape)) for one in MIX.inputs
        )
        shape = CallShape("mix", "v1", inputs, MIX.outputs, ())
        buffers = [pack(DataType.FP32, numbers), pack_bytes(words)]
        call, got = self.client.prepare(shape, backend=self.server.backend(self.protocol, "mix")), Got()
        call.send(len(words), [len(one) for one in buffers], buffers, got)
        told = await asyncio.wait_for(got.future, 10)
        if isinstance(told, BackendFailure):
            return told
        outputs = check_outputs(shape, told, len(words))
        return {one.name: unpack(one.data_type, tensor.data) for one, tensor in zip(MIX.outputs, outputs, strict=True)}


def send(stage: Stage, *numbers: int) -> Got:
    got = Got()
    data = [number.to_bytes(8, "little") for number in numbers]
    stage.client.prepare(SHAPE, backend=BACKEND).send(len(numbers), [8 * len(numbers)], data, got)
    assert not got.future.done(), "nobody is called before the sender knows what it sent"
    return got


async def outcome(got: Got) -> list[int] | FailureKind:
    told = await asyncio.wait_for(got.future, 5)
    if isinstance(told, BackendFailure):
        assert told.message
        return told.kind
    (tensor,) = told
    assert (tensor.name, tensor.data_type) == ("y", DataType.INT64)
    data = bytes(tensor.data)
    assert tensor.shape == (len(data) // 8,)
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


async def test_every_batch_gets_its_own_answer(stage: Stage) -> None:
    sent = [send(stage, number, number + 1) for number in range(20)]
    assert [await outcome(got) for got in sent] == [[number, number + 1] for number in range(20)]


async def test_a_batch_may_be_sent_from_within_an_answer(stage: Stage) -> None:
    second: list[Got] = []

    class Chained(Got):
        def answered(self, outputs: object) -> None:
            second.append(send(stage, 2))
            super().answered(outputs)  # type: ignore[arg-type]

    first = Chained()
    stage.client.prepare(SHAPE, backend=BACKEND).send(1, [8], [(1).to_bytes(8, "little")], first)
    assert await outcome(first) == [1]
    assert await outcome(second[0]) == [2]


async def test_whoever_gave_up_hears_nothing_more(stage: Stage) -> None:
    got = Got()
    exchange = stage.client.prepare(SHAPE, backend=BACKEND).send(1, [8], [b"12345678"], got)
    exchange.abort()
    exchange.abort()
    assert await outcome(send(stage, 3)) == [3]
    assert not got.future.done()


async def test_a_server_that_is_not_there_is_said_to_be_unreachable_until_it_is(stage: Stage) -> None:
    assert await stage.client.ready()
    await stage.stop()
    assert not await stage.client.ready()

    async def unreachable() -> bool:
        return await outcome(send(stage, 0)) is FailureKind.UNREACHABLE

    if isinstance(stage.client, GrpcClient):
        # Its channel may hear only after a call that their connection has broken; what it sends until then is lost.
        await eventually(unreachable, what="the broken connection is no longer used")
    assert [await outcome(got) for got in [send(stage, number) for number in range(3)]] == [FailureKind.UNREACHABLE] * 3
    await stage.start()
    assert await stage.client.ready()
    assert await outcome(send(stage, 4)) == [4]


async def test_closing_fails_what_is_under_way(stage: Stage) -> None:
    stage.hold()
    got = send(stage, 1)
    await eventually(lambda: stage.taken() == 1, what="the batch has arrived")
    await stage.client.close()
    assert await outcome(got) is FailureKind.LOST


# -- what is particular to servers that are not the mesh's own


@pytest.fixture(params=EXTERNAL)
async def external(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[External]:
    protocol = request.param
    client = open_client(servers(protocol).backend(protocol))
    yield External(protocol, servers(protocol), client)
    await client.close()


async def test_inputs_and_outputs_of_several_types(external: External) -> None:
    """NaN and infinities too, where the protocol has words for them."""
    numbers = [0.1, -2.5, 3.0, 1e30, 2.0, -1e30]
    if external.protocol is not Protocol.OIP_REST:
        numbers[4] = float("nan")
    assert await external.mix(numbers, ["straße".encode(), b""]) == {
        "total": [approx(0.6), approx(numbers[4], nan_ok=True) if numbers[4] != 2.0 else 0.0],
        "loud": [b"STRASSE" if external.protocol not in TENSORFLOW else "STRAßE".encode(), b""],
        "positive": [True, False, True, True, numbers[4] > 0, False],
    }


async def test_what_has_no_word_in_the_protocol_is_refused_before_it_is_sent(external: External) -> None:
    said = await external.mix([1.0, float("inf"), 1.0], [b"a"])
    if external.protocol is Protocol.OIP_REST:
        assert isinstance(said, BackendFailure)
        assert said.kind is FailureKind.MODEL
        assert "JSON has no word" in said.message
    else:
        assert isinstance(said, dict)
        assert said["total"] == [float("inf")]
    said = await external.mix([1.0, 1.0, 1.0], [b"\xff\xfe"])
    if external.protocol is Protocol.OIP_REST:
        assert isinstance(said, BackendFailure)
        assert "bytes that are no text" in said.message
    elif external.protocol is Protocol.TENSORFLOW_GRPC:
        assert isinstance(said, dict)
        assert said["loud"] == [b"\xff\xfe"]


async def test_what_the_model_refuses_is_told_in_its_words(external: External) -> None:
    said = await external.ask(external.server.backend(external.protocol), UNWELCOME)
    assert isinstance(said, BackendFailure)
    assert said.kind is FailureKind.MODEL
    assert ("Prediction failed" if external.protocol is Protocol.TORCHSERVE else "not welcome") in said.message


async def test_a_model_that_the_server_does_not_have_is_missing(external: External) -> None:
    protocol, server = external.protocol, external.server
    places = [server.backend(protocol, "none")]
    if protocol not in {Protocol.OIP_REST, Protocol.OIP_GRPC}:
        places.append(server.backend(protocol, version="77"))
    if protocol in TENSORFLOW:
        places.append(server.backend(protocol, version="stable"))
    for place in places:
        said = await external.ask(place, 1)
        assert isinstance(said, BackendFailure)
        assert said.kind is FailureKind.MISSING, said


async def test_a_version_and_a_signature_are_asked_for_by_name(external: External) -> None:
    protocol, server = external.protocol, external.server
    version = {Protocol.TORCHSERVE: "1.0"}.get(protocol, "1")
    if protocol not in {Protocol.OIP_REST, Protocol.OIP_GRPC}:
        assert await external.ask(server.backend(protocol, version=version), 5) == 5
    if protocol in TENSORFLOW:
        assert await external.ask(server.backend(protocol, signature="serving_default"), 6) == 6
        said = await external.ask(server.backend(protocol, signature="other"), 6)
        assert isinstance(said, BackendFailure)
        assert "other" in said.message


async def test_a_server_that_is_stopped_as_it_stands_is_not_ready(external: External) -> None:
    assert await external.client.ready()
    external.server.pause()
    try:
        began_s = asyncio.get_running_loop().time()
        assert not await external.client.ready()
        assert asyncio.get_running_loop().time() - began_s < 2
    finally:
        external.server.resume()
    await eventually(external.client.ready, what="it answers again")


async def test_of_joined_requests_only_the_guilty_one_is_told(external: External) -> None:
    clock = SystemClock()
    engine = Engine(clock=clock, open_client=open_client, options=EngineOptions(in_flight_per_backend=1))
    await engine.start()
    served = ServedVersion("m", "v1.0.0", "d", ECHO, backends=(external.server.backend(external.protocol),))

    def ask(number: int) -> InferRequest:
        tensor = Tensor("x", DataType.INT64, (1,), number.to_bytes(8, "little", signed=True))
        return InferRequest(served, 1, (tensor,), clock.monotonic() + 20)

    numbers = [*range(5), UNWELCOME, *range(6, 12)]
    told = await asyncio.gather(*(engine.infer(ask(number)) for number in numbers), return_exceptions=True)
    for number, one in zip(numbers, told, strict=True):
        if number == UNWELCOME:
            assert isinstance(one, MeshError)
            assert one.reason is Reason.MODEL_FAILED
        else:
            assert isinstance(one, InferResult)
            assert int.from_bytes(one.outputs[0].data, "little", signed=True) == number
    await engine.stop(1)
