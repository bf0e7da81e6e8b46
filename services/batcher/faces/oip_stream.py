"""`ModelStreamInfer`: a stream of tensor requests, each answered in its turn."""

from collections.abc import Mapping

from inference import grpc_service_pb2 as pb

from services.batcher.bridge.messages import StreamHandler
from services.batcher.codec.oip_proto import TensorRequests
from services.batcher.faces.call import Call
from services.batcher.faces.core import Core
from services.batcher.faces.grpc_stream import StreamMethod
from services.batcher.faces.oip import infer_tensors
from services.batcher.faces.oip_grpc import SERVICE


class InferenceStreams:
    """The service's streaming method."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._requests = TensorRequests()

    def streams(self) -> Mapping[str, StreamHandler]:
        """What answers the path."""
        method = StreamMethod("ModelStreamInfer", self._item, core=self._core)
        return {f"/{SERVICE}/ModelStreamInfer": method}

    async def _item(self, call: Call, data: bytes) -> bytes:
        response = pb.ModelStreamInferResponse()
        try:
            request = self._requests.read(data)
            response.infer_response.id = request.request_id
            answer = await infer_tensors(self._core, call, request)
            response.infer_response.ParseFromString(answer.plan.wire.response(answer.result, answer.request_id))
        except Exception as error:
            known = self._core.failed(call, error, face="ModelStreamInfer")
            response.error_message = f"{known.reason.value}: {known.message}"
        serialised: bytes = response.SerializeToString()
        return serialised
