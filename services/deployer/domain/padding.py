"""Whether a version can be padded as its deployment wishes: held against its schema, so that a caller hears at once."""

import math

from services.common.errors import FieldViolation, invalid_fields, shown
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.domain.deployment import Padding

WASTE_MAX = 0.99
_FIELD = "batching.padding"
_LARGEST = {DataType.FP16: 65_504.0, DataType.BF16: 3.38e38, DataType.FP32: 3.4028234e38}
_LENGTHS = (DataType.INT32, DataType.INT64)


def check_padding(padding: Padding | None, schema: ModelSchema) -> None:
    """Raises INVALID_FIELD naming all that does not fit the schema."""
    if padding is not None and (found := _violations(padding, schema)):
        raise invalid_fields(found)


def _violations(padding: Padding, schema: ModelSchema) -> list[FieldViolation]:
    found: list[FieldViolation] = []

    def unless(holds: bool, field: str, value: object, allowed: str) -> None:
        if not holds:
            found.append(FieldViolation(field, f"is {shown(value)}; allowed: {allowed}"))

    unless(0 <= padding.waste_max <= WASTE_MAX, f"{_FIELD}.waste_max", padding.waste_max, f"0 to {WASTE_MAX:g}")
    lengths = padding.lengths_input
    padded = {spec.name: spec for spec in schema.inputs if -1 in spec.shape and spec.name != lengths}
    unless(bool(padded), _FIELD, "set", "to be left out, because no input has a variable dimension")
    telling = any(spec.name == lengths and _tells_lengths(spec) for spec in schema.inputs)
    unless(not lengths or telling, f"{_FIELD}.lengths_input", lengths, _allowed_lengths(lengths, schema))
    cut = {spec.name for spec in schema.outputs if -1 in spec.shape}
    for name in padding.trim_outputs:
        unless(name in cut, f"{_FIELD}.trim_outputs", name, _named(cut, "outputs with a variable dimension"))
    for name in padding.input_values:
        allowed = _named(padded, "inputs with a variable dimension")
        unless(name in padded, f"{_FIELD}.input_values", name, allowed)
    for name, spec in padded.items():
        own = name in padding.input_values
        value = padding.input_values.get(name, padding.value)
        field = f"{_FIELD}.input_values.{name}" if own else f"{_FIELD}.value"
        unless(_fits(spec.data_type, value), field, value, f"a value of {spec.data_type}, the type of input {name}")
    return found


def _named(names: "dict[str, TensorSpec] | set[str]", what: str) -> str:
    return f"{what}: {', '.join(sorted(names)) or 'there is none'}"


def _tells_lengths(spec: TensorSpec) -> bool:
    return spec.data_type in _LENGTHS and spec.shape == (1,)


def _allowed_lengths(lengths: str, schema: ModelSchema) -> str:
    """What may tell lengths, and what the named input is instead: rows without a dimension are easily overlooked."""
    of_it = next((spec for spec in schema.inputs if spec.name == lengths), None)
    which = f"; it is {of_it.data_type} with rows of shape [{', '.join(map(str, of_it.shape))}]" if of_it else ""
    return f"an input that is INT32 or INT64 with rows of shape [1] ([N, 1] with the batch){which}"


def _fits(data_type: DataType, value: float) -> bool:
    if data_type is DataType.BYTES:
        return True  # Texts are filled with empty ones.
    if data_type is DataType.BOOL:
        return value in (0, 1)
    if not math.isfinite(value):
        return False
    if data_type.is_float:
        return abs(value) <= _LARGEST.get(data_type, math.inf)
    if value != int(value):
        return False
    bits = 8 * data_type.size_bytes
    if data_type.value.startswith("U"):
        return 0 <= int(value) < 1 << bits
    return -(1 << (bits - 1)) <= int(value) < 1 << (bits - 1)
