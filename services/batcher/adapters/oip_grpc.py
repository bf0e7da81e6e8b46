"""Any server of the Open Inference Protocol over gRPC: tensors as bytes, or as typed lists where it knows no bytes.

`raw_input_contents` is an extension that most servers have and the protocol does not demand, and there is no word by
which a server says so. So until one has answered bytes, what it refuses is said again in lists; whatever it answers
first is what it is spoken to by from then on.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto

from google.protobuf.message import DecodeError
from inference import grpc_service_pb2 as oip

from services.batcher.adapters.grpc_client import GrpcClient
from services.batcher.adapters.http_wire import GarbledError
from services.batcher.adapters.json_values import cut
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.refused import UnsayableError
from services.batcher.codec.oip_proto import DATA_TYPES
from services.batcher.domain.request import Parameter, Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape
from services.batcher.domain.tensors import Value, pack, split_bytes, unpack
from services.common.schema import DataType

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
"""FP16 and BF16 have no list: they are bytes or nothing."""


class Words(Enum):
    """How a server takes tensors, as far as is known."""

    UNKNOWN = auto()
    BYTES = auto()
    LISTS = auto()


def oip_grpc_client(outside: Outside) -> GrpcClient:
    """The client of a server."""
    return GrpcClient(outside, OipGrpc())


class OipGrpc:
    """A `GrpcDialect`."""

    infer_method = "/inference.GRPCInferenceService/ModelInfer"
    probe_method = "/inference.GRPCInferenceService/ServerLive"
    probe_request = b""

    def __init__(self) -> None:
        self.words = Words.UNKNOWN

    def format(self, shape: CallShape, backend: Backend) -> "OipGrpcFormat":
        """The calls of one shape to one model."""
        return OipGrpcFormat(self, shape, backend)


class OipGrpcFormat:
    """A `CallFormat`."""

    def __init__(self, dialect: OipGrpc, shape: CallShape, backend: Backend) -> None:
        self._dialect = dialect
        self._shape = shape
        self._base = oip.ModelInferRequest(
            model_name=backend.server_model_name,
            model_version=backend.server_model_version,
            outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name=spec.name) for spec in shape.outputs],
        )
        for name, value in shape.parameters:
            _set(self._base.parameters[name], value)
        self._sayable = all(one.data_type in _FIELDS for one in shape.inputs)

    def write(self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> bytes:
        """A request."""
        request = oip.ModelInferRequest()
        request.CopyFrom(self._base)
        for one, data in zip(self._shape.inputs, cut(sizes_bytes, buffers), strict=True):
            request.inputs.add(name=one.name, datatype=one.data_type.value, shape=[rows, *one.row_shape])
            request.raw_input_contents.append(bytes(data))
        return self._listed(request) if self._dialect.words is Words.LISTS else request.SerializeToString()

    def otherwise(self, request: bytes) -> bytes | None:
        """The same with lists, where it is not known whether the server takes bytes."""
        if self._dialect.words is not Words.UNKNOWN or not self._sayable:
            return None
        return self._listed(oip.ModelInferRequest.FromString(request))

    def understood(self) -> None:
        """The server takes what it was sent."""
        if self._dialect.words is Words.UNKNOWN:
            self._dialect.words = Words.BYTES

    def misunderstood(self) -> None:
        """It takes lists."""
        self._dialect.words = Words.LISTS

    def read(self, answer: bytes) -> list[Tensor]:
        """The outputs, in either form."""
        try:
            message = oip.ModelInferResponse.FromString(answer)
            raw = message.raw_output_contents
            if raw and len(raw) != len(message.outputs):
                raise GarbledError(f"the answer has {len(message.outputs)} outputs and bytes of {len(raw)}")
            return [_output(output, raw[number] if raw else None) for number, output in enumerate(message.outputs)]
        except DecodeError as error:
            raise GarbledError(f"the answer is no ModelInferResponse: {error}") from None

    def _listed(self, request: oip.ModelInferRequest) -> bytes:
        for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True):
            data_type = DATA_TYPES[tensor.datatype]
            field = _FIELDS.get(data_type)
            if field is None:
                raise UnsayableError(
                    f"input {tensor.name!r} is {tensor.datatype}, for which the protocol has no list, and this server "
                    "takes no bytes; register the version with FP32 there"
                )
            getattr(tensor.contents, field).extend(unpack(data_type, data))
        del request.raw_input_contents[:]
        return request.SerializeToString()


def _output(output: oip.ModelInferResponse.InferOutputTensor, raw: bytes | None) -> Tensor:
    data_type = DATA_TYPES.get(output.datatype)
    if data_type is None:
        raise GarbledError(f"output {output.name!r} has the datatype {output.datatype!r}")
    if raw is None:
        field = _FIELDS.get(data_type)
        values: Sequence[Value] = getattr(output.contents, field) if field else ()
        try:
            raw = pack(data_type, values)
        except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
            raise GarbledError(f"output {output.name!r} cannot be read as {data_type.value}: {error}") from None
    elif data_type is DataType.BYTES:
        _checked(output.name, split_bytes, raw)
    return Tensor(output.name, data_type, tuple(output.shape), raw)


def _checked(name: str, split: Callable[[bytes], object], raw: bytes) -> None:
    try:
        split(raw)
    except ValueError as error:
        raise GarbledError(f"output {name!r} cannot be read as BYTES: {error}") from None


def _set(parameter: oip.InferParameter, value: Parameter) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
