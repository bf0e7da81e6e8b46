"""Typed requests, most of them read by what those before had in common with them (`templates`)."""

from dataclasses import dataclass, replace

from infermesh.prediction.v1 import prediction_pb2

from services.batcher.codec.oip_proto import parse
from services.batcher.codec.templates import Templates
from services.batcher.codec.typed import TypedReader
from services.batcher.domain.request import Tensor
from services.common.errors import MeshError


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says beside its instances."""

    model_name: str
    version: str
    request_id: str
    parameters: tuple[tuple[str, str], ...]
    """Sorted by name."""
    timeout_ms: int
    explain: bool


def asked_in(request: prediction_pb2.PredictRequest) -> Asked:
    """What it says."""
    parameters = request.parameters
    return Asked(
        request.model_name,
        request.version,
        request.request_id,
        tuple(sorted(parameters.items())) if parameters else (),
        request.timeout_ms,
        request.explain,
    )


@dataclass(frozen=True, slots=True)
class TypedTemplate:
    """Requests with one instance of one feature, known but for its elements."""

    asked: Asked
    reader: TypedReader
    """Of the version that they were read for: another version's may read them otherwise."""
    tensor: Tensor
    """Without elements: those of the first request may be megabytes."""

    def inputs(self, data: bytes) -> tuple[Tensor, ...]:
        """The input tensors with these elements."""
        one = self.tensor
        return (Tensor(one.name, one.data_type, one.shape, data),)


class TypedTemplates:
    """What is known of requests."""

    __slots__ = ("_templates",)

    def __init__(self) -> None:
        self._templates: Templates[TypedTemplate] = Templates()

    def find(self, data: bytes) -> tuple[TypedTemplate, bytes] | None:
        """What was learned of such a request, and this one's elements."""
        return self._templates.find(data)

    def learn(self, data: bytes, asked: Asked, reader: TypedReader, tensors: tuple[Tensor, ...]) -> None:
        """Learns from a request that was read as these tensors."""
        if len(tensors) != 1 or tensors[0].shape[0] != 1 or asked.explain:
            return
        (tensor,) = tensors

        def reads_as(other: bytes, content: bytes) -> TypedTemplate | None:
            request = parse(prediction_pb2.PredictRequest, other)
            try:
                (read,) = reader.tensors(request.instances)
            except MeshError:
                return None
            same = asked_in(request) == asked and read.data == content and read.shape == tensor.shape
            return TypedTemplate(asked, reader, replace(tensor, data=b"")) if same and reader.at_a_glance else None

        self._templates.learn(data, tensor.data, reads_as)
