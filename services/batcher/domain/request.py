"""A request and its result as tensors, the same for every protocol: what the faces hand to the engine and get back.

Built for every request of the hot path, hence plain slotted classes. Nobody changes one after it was handed on.
"""

from dataclasses import dataclass, field

from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.priority import Priority
from services.batcher.domain.serving import ServedVersion
from services.common.errors import invalid
from services.common.schema import DataType

Parameter = str | int | float | bool
"""A value that a request hands to the model."""

PARAMETERS_SIZE_MAX = 8192
"""Characters of all parameters of a request. Thousands of groups remember theirs, which no bound of the
queue counts."""
_NUMBER_SIZE = 8


@dataclass(slots=True)
class Tensor:
    """One tensor. `shape` begins with the rows; `data` is row-major and little-endian, as the Open Inference Protocol
    writes binary tensors: each element of BYTES is preceded by its 4-byte little-endian length, BOOL is one byte."""

    name: str
    data_type: DataType
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(slots=True)
class InferRequest:
    """A request that fits its version's schema: it was checked before, so it can harm nobody in its batch."""

    served: ServedVersion
    rows: int
    inputs: tuple[Tensor, ...]
    """In the schema's order."""
    deadline_s: float
    """On the monotonic clock; every request has one."""
    outputs: tuple[str, ...] = ()
    """The outputs asked for, in the caller's order. Empty: all, in the schema's order."""
    parameters: tuple[tuple[str, Parameter], ...] = ()
    """Sorted by name. Requests that differ here never share a batch."""
    request_id: str = ""
    tenant: str = ""
    priority: Priority = Priority.CALLER
    """Requests that differ here never share a batch."""
    trail: list[BatchRun] | None = field(default=None, compare=False, repr=False)
    """Where the engine notes the batches that it was in; None where nobody traces it."""


@dataclass(slots=True)
class InferResult:
    """The caller's own rows of every output asked for."""

    outputs: tuple[Tensor, ...]
    batch: BatchRun | None = field(default=None, compare=False, repr=False)
    """The batch that it came out of, of a split request the last one; None where nobody measures."""
    compute_s: float = field(default=0.0, compare=False, repr=False)
    """The request's share, by rows, of the time that its batches took at the model server, those that the model refused
    for the sake of others included. 0: it was answered without one."""


def check_parameters(parameters: tuple[tuple[str, Parameter], ...]) -> None:
    """Raises INVALID_FIELD where they are too large."""
    size = sum([len(name) + (len(value) if isinstance(value, str) else _NUMBER_SIZE) for name, value in parameters])
    if size > PARAMETERS_SIZE_MAX:
        raise invalid(
            "parameters",
            f"{size} characters",
            f"at most {PARAMETERS_SIZE_MAX}: requests whose parameters differ share no batch; send data as inputs",
        )
