"""Whether a version can be padded as it declares. The deployer has checked it before; a table from elsewhere must not
reach a request with less."""

import math
import struct
from collections.abc import Sequence
from dataclasses import replace

from services.batcher.domain.padding import filler
from services.batcher.domain.serving import Padding
from services.common.errors import invalid
from services.common.schema import DataType, ModelSchema, TensorSpec

WASTE_MAX = 0.99


def check_padding(padding: Padding, schema: ModelSchema) -> None:
    """Raises INVALID_FIELD naming what does not fit the schema."""
    field = "batching.padding"
    if not 0 <= padding.waste_max <= WASTE_MAX:  # NaN is in no range
        raise invalid(f"{field}.waste_max", padding.waste_max, f"0 to {WASTE_MAX:g}")
    ragged = [spec for spec in schema.inputs if -1 in spec.shape and spec.name != padding.lengths_input]
    if not ragged:
        raise invalid(field, "set", "to be left out, because no input has a variable dimension")
    lengths = [spec for spec in schema.inputs if spec.name == padding.lengths_input]
    if padding.lengths_input and not (lengths and is_lengths(lengths[0])):
        raise invalid(f"{field}.lengths_input", padding.lengths_input, "an input of INT32[1] or INT64[1]")
    for name in padding.trim_outputs:
        if not any(spec.name == name and -1 in spec.shape for spec in schema.outputs):
            raise invalid(f"{field}.trim_outputs", name, "outputs that have a variable dimension")
    values = dict(padding.input_values)
    for name in values:
        if not any(spec.name == name for spec in ragged):
            raise invalid(f"{field}.input_values", name, "inputs that have a variable dimension")
    for spec in ragged:
        value = values.get(spec.name, padding.value)
        if not _fits(spec.data_type, value):
            raise invalid(f"{field}.value", value, f"a value of {spec.data_type}, the type of input {spec.name}")


def without_lengths(padding: Padding, schema: ModelSchema) -> ModelSchema:
    """The schema as callers see it: they may leave the lengths out."""
    return replace(schema, inputs=_optional(schema.inputs, padding.lengths_input))


def is_lengths(spec: TensorSpec) -> bool:
    """Whether the input can tell a model lengths."""
    return spec.data_type in (DataType.INT32, DataType.INT64) and spec.shape == (1,)


def _optional(inputs: Sequence[TensorSpec], name: str) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, optional=True, default_json="") if spec.name == name else spec for spec in inputs)


def _fits(data_type: DataType, value: float) -> bool:
    if data_type is DataType.BYTES:
        return True
    if data_type is DataType.BOOL:
        return value in (0, 1)
    if not math.isfinite(value) or not (data_type.is_float or value == int(value)):
        return False
    try:
        filler(data_type, value)
    except (struct.error, OverflowError):
        return False
    return True
