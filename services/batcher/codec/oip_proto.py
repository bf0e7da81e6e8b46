"""The Open Inference Protocol's protobuf messages ⇄ tensors."""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from google.protobuf.message import DecodeError
from inference import grpc_service_pb2 as pb

from services.batcher.codec.templates import Templates
from services.batcher.domain.request import Parameter, Tensor
from services.batcher.domain.schema_check import short_name
from services.batcher.domain.tensors import pack
from services.common.errors import MeshError, Reason, invalid, shown
from services.common.schema import DataType

M = TypeVar("M")

DATA_TYPES: Mapping[str, DataType] = {item.value: item for item in DataType}
_CONTENTS = {
    DataType.BOOL: "bool_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
}
_UNSUPPORTED_PARAMETERS = {
    "shared_memory_region": "shared memory is not offered; send the tensor in the request",
    "classification": "the classification extension is not offered; ask for the probabilities and sort them",
    "sequence_id": "sequences (stateful models) are not offered; send each request with all that it needs",
    "sequence_start": "sequences (stateful models) are not offered; send each request with all that it needs",
    "sequence_end": "sequences (stateful models) are not offered; send each request with all that it needs",
}
_NOT_THE_MODELS = frozenset({"priority", "timeout", "binary_data_output", "binary_data", "headers"})
"""Parameters that speak to a server, not to a model."""
_WHOLE_MICROSECONDS = re.compile(r"[0-9]{1,20}")


@dataclass(slots=True)
class TensorRequest:
    """A request of the protocol, whichever way it came."""

    model_name: str
    version: str
    request_id: str
    inputs: list[Tensor]
    outputs: tuple[str, ...]
    parameters: tuple[tuple[str, Parameter], ...] = ()
    timeout_ms: float = 0.0
    """0: none stated."""
    template: "TensorTemplate | None" = None
    """What is known of requests that differ from this one in the tensor's elements alone."""


class TensorTemplate:
    """Requests with one tensor, known but for its elements."""

    __slots__ = ("_data_type", "_name", "_request", "_shape", "fits", "rows")

    def __init__(self, request: TensorRequest) -> None:
        (tensor,) = request.inputs
        # Without elements: those of the first request may be megabytes.
        self._request = replace(request, inputs=[])
        self._name, self._data_type, self._shape = tensor.name, tensor.data_type, tensor.shape
        self.fits: object = None
        """What such a request was last checked against and fits, whatever its elements are."""
        self.rows = 0
        """Its rows, as that check found them."""

    def request(self, data: bytes) -> TensorRequest:
        """The request with these elements."""
        one = self._request
        tensor = Tensor(self._name, self._data_type, self._shape, data)
        return TensorRequest(
            one.model_name, one.version, one.request_id, [tensor], one.outputs, one.parameters, one.timeout_ms, self
        )


class TensorRequests:
    """Reads requests, most of them by what those before had in common with them."""

    __slots__ = ("_templates",)

    def __init__(self) -> None:
        self._templates: Templates[TensorTemplate] = Templates()

    def read(self, data: bytes) -> TensorRequest:
        """The request. Raises INVALID_FIELD, MALFORMED_BODY or NOT_IMPLEMENTED."""
        found = self._templates.find(data)
        if found is not None:
            return found[0].request(found[1])
        request = read_request(parse(pb.ModelInferRequest, data))
        if len(request.inputs) == 1 and request.inputs[0].data_type is not DataType.BYTES:
            self._templates.learn(data, request.inputs[0].data, lambda *other: _template(request, *other))
        return request


def _template(request: TensorRequest, data: bytes, content: bytes) -> TensorTemplate | None:
    (tensor,) = request.inputs
    try:
        other = read_request(parse(pb.ModelInferRequest, data))
    except MeshError:
        return None
    same = replace(request, inputs=[replace(tensor, data=content)])
    return TensorTemplate(request) if other == same else None


def parse(message_type: Callable[[], M], data: bytes) -> M:
    """Reads a protobuf message. Raises MALFORMED_BODY."""
    try:
        return message_type.FromString(data)  # type: ignore[attr-defined, no-any-return]
    except DecodeError as error:
        name = getattr(message_type, "__name__", "message")
        raise MeshError(Reason.MALFORMED_BODY, f"the body is no {name}: {error}") from None


def read_request(message: pb.ModelInferRequest) -> TensorRequest:
    """The request. Raises INVALID_FIELD, MALFORMED_BODY or NOT_IMPLEMENTED."""
    raw = message.raw_input_contents
    given = message.inputs
    if raw and len(raw) != len(given):
        raise MeshError(
            Reason.MALFORMED_BODY,
            f"raw_input_contents has {len(raw)} entries for {len(given)} inputs; give one for each, in their order",
        )
    tensors: list[Tensor] = []
    for place, tensor in enumerate(given):
        data_type = DATA_TYPES.get(tensor.datatype)
        if data_type is None:
            raise invalid(f"inputs[{place}].datatype", tensor.datatype, ", ".join(DATA_TYPES))
        if tensor.parameters:
            refuse_unsupported(tensor.parameters)
        if raw and tensor.HasField("contents"):
            raise MeshError(
                Reason.MALFORMED_BODY,
                f"inputs[{place}] fills contents although raw_input_contents is used; fill one of them",
            )
        data = raw[place] if raw else _contents(tensor, data_type, place)
        tensors.append(Tensor(tensor.name, data_type, tuple(tensor.shape), data))
    outputs: tuple[str, ...] = ()
    if message.outputs:
        for output in message.outputs:
            if output.parameters:
                refuse_unsupported(output.parameters)
        outputs = tuple([output.name for output in message.outputs])
    request = TensorRequest(message.model_name, message.model_version, message.id, tensors, outputs)
    if message.parameters:
        given_parameters = {name: _parameter(value) for name, value in message.parameters.items()}
        request.parameters, request.timeout_ms = split_parameters(given_parameters)
    return request


def split_parameters(given: Mapping[str, object]) -> tuple[tuple[tuple[str, Parameter], ...], float]:
    """The model's parameters, sorted, and the time limit in milliseconds among the server's. Raises NOT_IMPLEMENTED or
    INVALID_FIELD."""
    refuse_unsupported(given)
    parameters: list[tuple[str, Parameter]] = []
    for name in sorted(given):
        value = given[name]
        if name in _NOT_THE_MODELS:
            continue
        if not isinstance(value, str | int | float | bool):
            raise invalid(f"parameters.{short_name(name)}", value, "a text, a number, true or false")
        parameters.append((name, value))
    timeout = given.get("timeout", 0)
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, int | str)
        or _WHOLE_MICROSECONDS.fullmatch(str(timeout)) is None
    ):
        raise invalid("parameters.timeout", timeout, "whole microseconds, 0 or more, of at most 20 digits")
    return tuple(parameters), int(timeout) / 1000


def refuse_unsupported(parameters: Mapping[str, object]) -> None:
    """Raises NOT_IMPLEMENTED where a parameter belongs to an extension that is not offered."""
    for name in parameters:
        if name in _UNSUPPORTED_PARAMETERS:
            raise MeshError(Reason.NOT_IMPLEMENTED, f"parameter {shown(name)}: {_UNSUPPORTED_PARAMETERS[name]}")


def _parameter(value: pb.InferParameter) -> object:
    choice = value.WhichOneof("parameter_choice")
    return getattr(value, choice) if choice else None


def _contents(tensor: pb.ModelInferRequest.InferInputTensor, data_type: DataType, place: int) -> bytes:
    field = _CONTENTS.get(data_type)
    if field is None:
        raise invalid(
            f"inputs[{place}].contents", data_type.value, "raw_input_contents for FP16 and BF16, which have no field"
        )
    values: Sequence[bool | int | float | bytes] = getattr(tensor.contents, field)
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            raise MeshError(
                Reason.MALFORMED_BODY,
                f"inputs[{place}] is {data_type.value} and fills {other.name}; fill {field} or raw_input_contents",
            )
    try:
        return pack(data_type, list(values))
    except (struct.error, OverflowError) as error:
        raise invalid(f"inputs[{place}].contents", str(error), f"values of {data_type.value}") from None
