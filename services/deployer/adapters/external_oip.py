"""External servers of the Open Inference Protocol, over REST and over gRPC."""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

import grpc
import numpy as np
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc

from services.common.errors import Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.adapters.external_wire import (
    LOOK_TIMEOUT_S,
    TRIAL_TIMEOUT_S,
    GrpcSpeaker,
    HttpSpeaker,
    Json,
    Model,
    Target,
    mapping,
    read,
    scalars,
    trial_failed,
)
from services.deployer.domain.external import batched
from services.deployer.domain.trial import Tensor, TensorShape

_TYPES = frozenset(one.value for one in DataType)
_FIELDS = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
}


class OipRest(HttpSpeaker):
    """A `Speech`."""

    def __init__(self, target: Target, model: Model) -> None:
        super().__init__(target, model)
        self._path = f"/v2/models/{quote(model.name, safe='')}"
        if model.version:
            self._path += f"/versions/{quote(model.version, safe='')}"

    async def ready(self) -> bool:
        """By the model's own readiness."""
        return (await self.look("GET", f"{self._path}/ready")).is_success

    async def schema(self) -> ModelSchema | None:
        """The model's metadata."""
        said = mapping(await self.metadata(self._path), "metadata", self.address)
        return _schema(_stated(said.get("inputs")), _stated(said.get("outputs")), self.address)

    async def infer(self, inputs: Sequence[Tensor], wanted: ModelSchema) -> Mapping[str, TensorShape]:  # noqa: ARG002
        """One prediction with JSON tensors."""
        body = {
            "inputs": [
                {"name": one.name, "datatype": one.data_type.value, "shape": list(one.shape), "data": list(one.data)}
                for one in inputs
            ]
        }
        said = mapping(await self.trial(f"{self._path}/infer", body), "a prediction", self.address)
        try:
            outputs = said["outputs"]
            assert isinstance(outputs, list)
            return {
                str(one["name"]): TensorShape(str(one["datatype"]), tuple(int(size) for size in one["shape"]))
                for one in outputs
            }
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise trial_failed(self.address, self.model, f"its answer cannot be read ({error!r})") from None

    async def software(self) -> str:
        """By the server's metadata."""
        said = mapping(read(await self.look("GET", "/v2"), self.address), "metadata", self.address)
        return f"{said.get('name', '')} {said.get('version', '')}".strip()


class OipGrpc(GrpcSpeaker):
    """A `Speech`."""

    def __init__(self, target: Target, model: Model) -> None:
        super().__init__(target, model)
        self._stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    async def ready(self) -> bool:
        """By the model's own readiness."""
        request = oip.ModelReadyRequest(name=self.model.name, version=self.model.version)
        try:
            answer = await self.look(self._stub.ModelReady, request)
        except grpc.aio.AioRpcError as error:
            self.looked(error)
            return False
        return bool(answer.ready)

    async def schema(self) -> ModelSchema | None:
        """The model's metadata."""
        request = oip.ModelMetadataRequest(name=self.model.name, version=self.model.version)
        try:
            said = await self._stub.ModelMetadata(request, timeout=LOOK_TIMEOUT_S, metadata=self.shown())
        except grpc.aio.AioRpcError as error:
            raise self.no_metadata(error) from error
        inputs = [(one.name, one.datatype, tuple(one.shape)) for one in said.inputs]
        outputs = [(one.name, one.datatype, tuple(one.shape)) for one in said.outputs]
        return _schema(inputs, outputs, self.address)

    async def infer(self, inputs: Sequence[Tensor], wanted: ModelSchema) -> Mapping[str, TensorShape]:  # noqa: ARG002
        """One prediction, in the words that batchers find: bytes, and what a server refuses, in lists."""
        try:
            answer = await self._stub.ModelInfer(
                self._request(inputs, raw=True), timeout=TRIAL_TIMEOUT_S, metadata=self.shown()
            )
        except grpc.aio.AioRpcError as error:
            failed = self.no_prediction(error)
            listed = failed.reason is Reason.WARMUP_FAILED and all(one.data_type in _FIELDS for one in inputs)
            if not listed:
                raise failed from error
            try:
                answer = await self._stub.ModelInfer(
                    self._request(inputs, raw=False), timeout=TRIAL_TIMEOUT_S, metadata=self.shown()
                )
            except grpc.aio.AioRpcError:
                raise failed from error
        return {one.name: TensorShape(one.datatype, tuple(one.shape)) for one in answer.outputs}

    async def _ask(self, inputs: Sequence[Tensor], *, raw: bool) -> oip.ModelInferResponse:
        request = self._request(inputs, raw=raw)
        return await self._stub.ModelInfer(request, timeout=TRIAL_TIMEOUT_S, metadata=self.shown())

    def _request(self, inputs: Sequence[Tensor], *, raw: bool) -> oip.ModelInferRequest:
        request = oip.ModelInferRequest(model_name=self.model.name, model_version=self.model.version)
        for one in inputs:
            tensor = request.inputs.add(name=one.name, datatype=one.data_type.value, shape=one.shape)
            if raw:
                request.raw_input_contents.append(_raw(one))
            else:
                data = scalars(one.data) if one.data_type is DataType.BYTES else one.data
                getattr(tensor.contents, _FIELDS[one.data_type]).extend(data)
        return request

    async def software(self) -> str:
        """By the server's metadata."""
        try:
            said = await self._stub.ServerMetadata(
                oip.ServerMetadataRequest(), timeout=LOOK_TIMEOUT_S, metadata=self.shown()
            )
        except grpc.aio.AioRpcError:
            return ""
        return f"{said.name} {said.version}".strip()


def _stated(listed: Json) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, type and shape of each tensor of a model's metadata; nothing where it is not what it should be."""
    found = []
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("shape"), list):
            shape = tuple(size if isinstance(size, int) else -1 for size in one["shape"])
            found.append((str(one.get("name", "")), str(one.get("datatype", "")), shape))
    return found


def _schema(
    inputs: Iterable[tuple[str, str, tuple[int, ...]]],
    outputs: Iterable[tuple[str, str, tuple[int, ...]]],
    address: str,
) -> ModelSchema | None:
    stated = ModelSchema(tuple(_spec(one, address) for one in inputs), tuple(_spec(one, address) for one in outputs))
    return stated if stated.inputs and stated.outputs else None


def _spec(stated: tuple[str, str, tuple[int, ...]], address: str) -> TensorSpec:
    name, data_type, shape = stated
    if data_type not in _TYPES:
        raise trial_failed(address, Model(name), f"its metadata has the element type {data_type!r}")
    return TensorSpec(name, DataType(data_type), batched(name, shape, address=address))


def _raw(one: Tensor) -> bytes:
    """The bytes of a trial's input: all its elements are ordinary numbers or texts."""
    if one.data_type is DataType.BYTES:
        return b"".join(len(value).to_bytes(4, "little") + value for value in scalars(one.data))
    array = np.array(one.data, dtype=np.float32 if one.data_type is DataType.BF16 else one.data_type.numpy_name)
    if one.data_type is DataType.BF16:
        return (array.view("<u4") >> np.uint32(16)).astype("<u2").tobytes()
    return array.tobytes()
