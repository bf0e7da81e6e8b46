"""TensorFlow Serving over gRPC: its predict API."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from tensorflow_serving import model_service_pb2, prediction_service_pb2

from services.batcher.adapters.grpc_client import GrpcClient
from services.batcher.adapters.http_wire import GarbledError
from services.batcher.adapters.json_values import cut
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.refused import UnsayableError
from services.batcher.adapters.tensorflow_rest import NO_PARAMETERS
from services.batcher.adapters.tensorflow_tensors import read_tensor, write_tensor
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape


def tensorflow_grpc_client(outside: Outside) -> GrpcClient:
    """The client of a server."""
    return GrpcClient(outside, TensorFlowGrpc())


class TensorFlowGrpc:
    """A `GrpcDialect`."""

    infer_method = "/tensorflow.serving.PredictionService/Predict"
    probe_method = "/tensorflow.serving.ModelService/GetModelStatus"
    probe_request = model_service_pb2.GetModelStatusRequest(
        model_spec=prediction_service_pb2.ModelSpec(name="-")
    ).SerializeToString()
    """It has no health service by default: even that there is no such model says that it is there."""

    def format(self, shape: CallShape, backend: Backend) -> "TensorFlowGrpcFormat":
        """The calls of one shape to one model."""
        return TensorFlowGrpcFormat(shape, backend)


class TensorFlowGrpcFormat:
    """A `CallFormat`."""

    def __init__(self, shape: CallShape, backend: Backend) -> None:
        self._shape = shape
        spec = prediction_service_pb2.ModelSpec(name=backend.server_model_name, signature_name=backend.signature_name)
        version = backend.server_model_version
        if version.isdecimal():
            spec.version.value = int(version)
        elif version:
            spec.version_label = version
        self._base = prediction_service_pb2.PredictRequest(
            model_spec=spec, output_filter=[one.name for one in shape.outputs]
        )

    def write(self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> bytes:
        """A request."""
        if self._shape.parameters:
            raise UnsayableError(NO_PARAMETERS)
        request = prediction_service_pb2.PredictRequest()
        request.CopyFrom(self._base)
        for one, data in zip(self._shape.inputs, cut(sizes_bytes, buffers), strict=True):
            write_tensor(request.inputs[one.name], one, rows, data)
        return request.SerializeToString()

    def read(self, answer: bytes) -> list[Tensor]:
        """The outputs."""
        try:
            message = prediction_service_pb2.PredictResponse.FromString(answer)
        except DecodeError as error:
            raise GarbledError(f"the answer is no PredictResponse: {error}") from None
        return [read_tensor(name, tensor) for name, tensor in message.outputs.items()]

    def otherwise(self, request: bytes) -> bytes | None:  # noqa: ARG002
        """There are no other words."""
        return None

    def understood(self) -> None:
        """Nothing is to be learned of it."""

    def misunderstood(self) -> None:
        """Never so."""
