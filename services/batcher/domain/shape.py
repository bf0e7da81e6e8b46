"""What the requests of one group have in common: the only ones that may share a batch."""

from dataclasses import dataclass

from services.batcher.domain.request import InferRequest, Parameter
from services.common.schema import DataType, TensorSpec

GroupKey = tuple[object, ...]
"""Equal for requests that may share a batch."""


@dataclass(frozen=True, slots=True)
class InputShape:
    """One input of every request of a group."""

    name: str
    data_type: DataType
    row_shape: tuple[int, ...]
    """The shape of one row: all dimensions but the first."""
    row_bytes: int
    """Bytes of one row; -1 for BYTES, whose rows differ."""


@dataclass(frozen=True, slots=True)
class CallShape:
    """A call of one version, without its rows."""

    model_name: str
    version: str
    inputs: tuple[InputShape, ...]
    outputs: tuple[TensorSpec, ...]
    """What is asked for, in the order of the answer. Empty where the schema states none: then all come back."""
    parameters: tuple[tuple[str, Parameter], ...]


def group_key(request: InferRequest) -> GroupKey:
    """The request's group. On the hot path: one tuple, no more."""
    served, inputs, parameters = request.served, request.inputs, request.parameters
    # By their text, because True, 1 and 1.0 are equal to Python and not to a model.
    told = repr(parameters) if parameters else ""
    if len(inputs) == 1:
        tensor = inputs[0]
        return (
            served.model_name,
            served.version,
            tensor.name,
            tensor.data_type,
            tensor.shape[1:],
            request.outputs,
            told,
            request.priority,
        )
    signature = tuple([(tensor.name, tensor.data_type, tensor.shape[1:]) for tensor in inputs])
    return (served.model_name, served.version, signature, request.outputs, told, request.priority)


def call_shape(request: InferRequest) -> CallShape:
    """What the request has in common with its group."""
    specs = {spec.name: spec for spec in request.served.schema.outputs}
    wanted = request.outputs or tuple(specs)
    return CallShape(
        model_name=request.served.model_name,
        version=request.served.version,
        inputs=tuple(_input_shape(tensor.name, tensor.data_type, tensor.shape[1:]) for tensor in request.inputs),
        outputs=tuple(specs[name] for name in wanted if name in specs),
        parameters=request.parameters,
    )


def _input_shape(name: str, data_type: DataType, row_shape: tuple[int, ...]) -> InputShape:
    return InputShape(name, data_type, row_shape, row_bytes_of(data_type, row_shape))


def row_bytes_of(data_type: DataType, row_shape: tuple[int, ...]) -> int:
    """Bytes of one row of that shape; -1 for BYTES."""
    if data_type is DataType.BYTES:
        return -1
    size = data_type.size_bytes
    for length in row_shape:
        size *= length
    return size
