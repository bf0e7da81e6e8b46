"""How a client of the Open Inference Protocol finds out in which words a server takes tensors: lists or bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from inference import grpc_service_pb2 as oip
from onnx import TensorProto, helper

from services.batcher.adapters.json_client import JsonClient
from services.batcher.adapters.oip_grpc import oip_grpc_client
from services.batcher.adapters.oip_rest import OipRest
from services.batcher.adapters.outside import Outside
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend, Protocol
from services.batcher.domain.shape import CallShape, InputShape, row_bytes_of
from services.batcher.domain.tensors import pack, pack_bytes
from services.batcher.ports import BackendClient
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.common.server_address import ServerAddress
from tests.integration.deployer.test_runner import NAME, put, save, value
from tests.support.batcher_engine_server import Got
from tests.support.parts import free_port, loader_of, running, triton_in
from tests.support.waiting import eventually

EVERY_TYPE = {
    DataType.BOOL: [True, False],
    DataType.INT8: [-1, 7],
    DataType.INT16: [-1, 7],
    DataType.INT32: [-1, 7],
    DataType.INT64: [-1, 2**62],
    DataType.UINT8: [1, 255],
    DataType.UINT16: [1, 65535],
    DataType.UINT32: [1, 2**32 - 1],
    DataType.UINT64: [1, 2**64 - 1],
    DataType.FP32: [0.5, float("inf")],
    DataType.FP64: [0.1, -0.0],
    DataType.BYTES: [b"\xff", "é".encode()],
}


class ListsAlone:
    """Gives back what it got, and takes no bytes."""

    def __init__(self) -> None:
        self.refused = 0
        self.down = False

    async def ModelInfer(
        self,
        request: oip.ModelInferRequest,
        context: "grpc.aio.ServicerContext[oip.ModelInferRequest, oip.ModelInferResponse]",
    ) -> oip.ModelInferResponse:
        if self.down:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
        if request.raw_input_contents:
            self.refused += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "raw_input_contents is not known here")
        answer = oip.ModelInferResponse(model_name=request.model_name)
        for one in request.inputs:
            answer.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape, contents=one.contents)
        return answer


@asynccontextmanager
async def serving(servicer: ListsAlone) -> AsyncIterator[Backend]:
    server, port = grpc.aio.server(), free_port()
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.ModelInfer,
        request_deserializer=oip.ModelInferRequest.FromString,
        response_serializer=oip.ModelInferResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield Backend("s", "", f"127.0.0.1:{port}", "m", protocol=Protocol.OIP_GRPC)
    await server.stop(None)


async def echoed(
    client: BackendClient, backend: Backend, types: list[DataType], *, output: str = ""
) -> list[Tensor] | BackendFailure:
    """What two rows of each type come back as."""
    shape = CallShape(
        "m",
        "v1",
        tuple(InputShape(one.value, one, (), row_bytes_of(one, ())) for one in types),
        tuple(TensorSpec(output or one.value, one) for one in types),
        (),
    )
    buffers = [bytes_of(one) for one in types]
    got = Got()
    client.prepare(shape, backend=backend).send(2, [len(one) for one in buffers], buffers, got)
    told = await asyncio.wait_for(got.future, 10)
    return told if isinstance(told, BackendFailure) else list(told)


def bytes_of(data_type: DataType) -> bytes:
    values = EVERY_TYPE.get(data_type, [0.5, 1.0])
    return pack_bytes(values) if data_type is DataType.BYTES else pack(data_type, values)  # type: ignore[arg-type]


async def test_a_server_that_refuses_bytes_is_given_lists_from_then_on() -> None:
    servicer = ListsAlone()
    async with serving(servicer) as backend:
        client = oip_grpc_client(Outside(ServerAddress(backend.grpc_address)))
        for _ in range(2):
            told = await echoed(client, backend, list(EVERY_TYPE))
            assert isinstance(told, list), told
            assert {one.data_type: bytes(one.data) for one in told} == {one: bytes_of(one) for one in EVERY_TYPE}
        assert servicer.refused == 1
        told = await echoed(client, backend, [DataType.FP16])
        assert isinstance(told, BackendFailure)
        assert (told.kind, "takes no bytes" in told.message) == (FailureKind.MODEL, True)
        await client.close()


async def test_a_server_that_is_busy_has_refused_no_words() -> None:
    servicer = ListsAlone()
    async with serving(servicer) as backend:
        client = oip_grpc_client(Outside(ServerAddress(backend.grpc_address)))
        servicer.down = True
        told = await echoed(client, backend, [DataType.FP32])
        assert isinstance(told, BackendFailure)
        assert told.kind is FailureKind.OVERLOADED
        assert servicer.refused == 0
        await client.close()


async def test_bytes_are_sent_over_rest_once_the_server_has_said_that_it_takes_them(tmp_path: Path) -> None:
    part = triton_in(tmp_path)
    async with running(part):
        node = helper.make_node("Identity", ["FP32"], ["same"])
        inputs, outputs = [value("FP32", TensorProto.FLOAT, "n")], [value("same", TensorProto.FLOAT, "n")]
        schema = ModelSchema((TensorSpec("FP32", DataType.FP32),), (TensorSpec("same", DataType.FP32),))
        await put(tmp_path, (save(tmp_path, node, inputs, outputs), schema))
        address = f"127.0.0.1:{part.ports['triton_http']}"
        loader = loader_of(part)
        await loader.load(NAME)
        backend = Backend("t", address, "", NAME, protocol=Protocol.OIP_REST)
        dialect = OipRest()
        client = JsonClient(Outside(ServerAddress(address)), dialect)
        for binary in (False, True):
            told = await echoed(client, backend, [DataType.FP32], output="same")
            assert isinstance(told, BackendFailure) is not binary, "infinity goes as bytes alone"
            await eventually(lambda: dialect.binary, what="the server's extensions are known")
        assert isinstance(told, list)
        assert bytes(told[0].data) == bytes_of(DataType.FP32)
        await client.close()
        await loader.close()
