"""The batcher over the Open Inference Protocol: raw tensors, hence no JSON and no copy for each value. Explanations are
asked of its predict endpoint, whose answers have them."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import grpc
import numpy as np
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from infermesh.prediction.v1 import prediction_service_pb2_grpc

from services.batch.adapters.explained import answer_in, explain_request
from services.batch.adapters.tokens import RegistryTokens
from services.batch.domain.job import Version
from services.batch.domain.rows import Tensor
from services.batch.ports import Answer
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import current_identity
from services.common.schema import DataType

_BACKGROUND = ("x-priority", "background")
"""Asks for what is idle only: whoever waits for an answer goes first."""
_LENGTH = struct.Struct("<I")
_Header = tuple[str, str]
T = TypeVar("T")


class BatcherModel:
    """A `Model`. `tokens` None: the gateway asks for no credential."""

    def __init__(
        self, channel: grpc.aio.Channel, *, clock: Clock, timeout_s: float, tokens: RegistryTokens | None = None
    ) -> None:
        self._tokens = tokens
        self._stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._clock = clock
        self._timeout_s = timeout_s

    async def infer(
        self, version: Version, tensors: Mapping[str, Tensor], outputs: Sequence[str], parameters: Mapping[str, str]
    ) -> Answer:
        """One ModelInfer call."""
        request = _request(version, tensors, outputs, parameters)
        began_s = self._clock.monotonic()
        response = await self._call(
            version, lambda headers: self._stub.ModelInfer(request, metadata=headers, timeout=self._timeout_s)
        )
        return Answer(_tensors(response), (self._clock.monotonic() - began_s) * 1000)

    async def explain(self, version: Version, tensors: Mapping[str, Tensor], parameters: Mapping[str, str]) -> Answer:
        """One Predict call, of which the batcher makes thousands of rows."""
        request = await asyncio.to_thread(explain_request, version, tensors, parameters)
        began_s = self._clock.monotonic()
        response = await self._call(
            version, lambda headers: self._predictions.Predict(request, metadata=headers, timeout=self._timeout_s)
        )
        return answer_in(response, version, latency_ms=(self._clock.monotonic() - began_s) * 1000)

    async def _call(self, version: Version, send: Callable[[Sequence[_Header]], Awaitable[T]]) -> T:
        """What the batcher answers to one call in the name of the current identity."""
        caller, headers = current_identity(), [_BACKGROUND]
        headers += [("x-model-name", version.model), ("x-model-version", version.version)]
        if self._tokens is not None:
            headers.append(("authorization", f"Bearer {await self._tokens.bearer(caller, version.model)}"))
        try:
            return await send(headers)
        except MeshError as error:
            if error.reason is Reason.UNAUTHENTICATED and self._tokens is not None:
                # Its signer's key was replaced, or a clock runs ahead: the next request asks for another.
                self._tokens.forget(caller, version.model)
                raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, error.message, retry_after_s=1.0) from error
            raise _too_large(error) or error from error


def _request(
    version: Version, tensors: Mapping[str, Tensor], outputs: Sequence[str], parameters: Mapping[str, str]
) -> grpc_service_pb2.ModelInferRequest:
    types = {spec.name: spec.data_type for spec in version.schema.inputs}
    request = grpc_service_pb2.ModelInferRequest(model_name=version.model, model_version=version.version)
    for name, value in parameters.items():
        request.parameters[name].string_param = value
    for name, tensor in tensors.items():
        request.inputs.add(name=name, datatype=types.get(name, DataType.BYTES).value, shape=tensor.shape)
        request.raw_input_contents.append(_to_bytes(tensor))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def _tensors(response: grpc_service_pb2.ModelInferResponse) -> Mapping[str, Tensor]:
    if len(response.raw_output_contents) != len(response.outputs):
        raise MeshError(
            Reason.BACKEND_PROTOCOL,
            f"the answer has {len(response.outputs)} outputs and {len(response.raw_output_contents)} raw contents",
        )
    tensors = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        try:
            tensors[output.name] = _from_bytes(raw, DataType(output.datatype), tuple(output.shape))
        except (ValueError, struct.error) as error:
            raise MeshError(
                Reason.BACKEND_PROTOCOL, f"output {output.name!r} of the answer cannot be read: {error}"
            ) from error
    return tensors


def _to_bytes(tensor: Tensor) -> bytes:
    if tensor.dtype != np.object_:
        return np.ascontiguousarray(tensor).tobytes()
    pieces: list[bytes] = []
    for item in tensor.ravel().tolist():
        raw = item if isinstance(item, bytes) else str(item).encode()
        pieces += (_LENGTH.pack(len(raw)), raw)
    return b"".join(pieces)


def _from_bytes(raw: bytes, kind: DataType, shape: tuple[int, ...]) -> Tensor:
    if not shape:
        raise ValueError("it has no batch dimension")
    if kind is not DataType.BYTES:
        return np.frombuffer(raw, dtype=kind.numpy_name).reshape(shape)
    items, at = [], 0
    while at < len(raw):
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size + length
        items.append(raw[at - length : at])
    return np.array(items, dtype=np.object_).reshape(shape)


def _too_large(error: MeshError) -> MeshError | None:
    """A message over gRPC's bound has the code of an exhausted quota, but waiting does not help; fewer rows do."""
    if error.reason is Reason.QUOTA_EXCEEDED and "larger than max" in error.message:
        return MeshError(Reason.MESSAGE_TOO_LARGE, error.message)
    return None
