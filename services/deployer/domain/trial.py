"""The trial prediction: a batch made of the schema alone, and what its answer must look like."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec

JsonScalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in an inference call: the batch is the first dimension of `shape`."""

    name: str
    data_type: DataType
    shape: tuple[int, ...]
    data: Sequence[JsonScalar]


@dataclass(frozen=True, slots=True)
class TensorShape:
    """What an answer says of one of its tensors."""

    data_type: str
    shape: tuple[int, ...]


def trial_rows(max_batch_size: int) -> int:
    """Two rows where batches are allowed: a model with its batch dimension fixed at 1 shows itself before it serves."""
    return min(2, max_batch_size)


def trial_inputs(schema: ModelSchema, rows: int, *, lengths_input: str = "") -> tuple[Tensor, ...]:
    """`rows` equal rows of ordinary values: the default, else the least allowed, the first category, zero or empty.
    Variable dimensions have the size 1, and that is what the input that tells lengths says."""
    specs = (replace(spec, default_json="1") if spec.name == lengths_input else spec for spec in schema.inputs)
    return tuple(_tensor(spec, rows) for spec in specs)


def check_answer(schema: ModelSchema, rows: int, answer: Mapping[str, TensorShape]) -> None:
    """Raises WARMUP_FAILED where an output is missing or has another type or shape than was registered."""
    for spec in schema.outputs:
        got = answer.get(spec.name)
        if got is None:
            raise _failed(f"it gives no output {spec.name!r}, but {', '.join(sorted(answer)) or 'none'}")
        wanted = (rows, *spec.shape)
        if got.data_type != spec.data_type.value:
            raise _failed(f"output {spec.name!r} is {got.data_type} where the schema says {spec.data_type.value}")
        fits = len(got.shape) == len(wanted) and all(
            size in (-1, seen) for size, seen in zip(wanted, got.shape, strict=True)
        )
        if not fits:
            raise _failed(
                f"output {spec.name!r} has shape {list(got.shape)} for {rows} rows where the schema says {list(wanted)}"
            )


def _failed(problem: str) -> MeshError:
    return MeshError(
        Reason.WARMUP_FAILED,
        f"the version loaded but its trial prediction does not fit its schema: {problem}; "
        "register a version with the schema that it has",
    )


def _tensor(spec: TensorSpec, rows: int) -> Tensor:
    row_shape = tuple(1 if size < 0 else size for size in spec.shape)
    count = 1
    for size in row_shape:
        count *= size
    return Tensor(spec.name, spec.data_type, (rows, *row_shape), _row(spec, count) * rows)


def _row(spec: TensorSpec, count: int) -> list[JsonScalar]:
    if spec.default_json:
        values = flat(json.loads(spec.default_json))
        if len(values) == count:
            return values
    return [_ordinary(spec)] * count


def _ordinary(spec: TensorSpec) -> JsonScalar:
    if spec.data_type is DataType.BYTES:
        return spec.categories[0] if spec.categories else ""
    if spec.data_type is DataType.BOOL:
        return False
    value = max(0.0, spec.minimum if spec.minimum is not None else 0.0)
    if spec.maximum is not None:
        value = min(value, spec.maximum)
    return value if spec.data_type.is_float else int(value)


def flat(value: object) -> list[JsonScalar]:
    """The values of nested lists, in order; what is no value is left out."""
    if isinstance(value, list):
        return [item for part in value for item in flat(part)]
    return [value] if isinstance(value, bool | int | float | str) else []
