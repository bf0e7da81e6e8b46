"""Reference samples: the instances that explanations are made against, checked against the version's schema."""

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from services.common.errors import FieldViolation, MeshError, Reason, shown
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.domain.version import JsonObject
from services.registry.domain.violations import Violations

ROWS_MAX = 256
JSON_BYTES_MAX = 1024 * 1024
FIELD = "reference_sample"
_VIOLATIONS_MAX = 16
_DEPTH_MAX = 16
_FLOAT_CODES = {DataType.FP16: "e", DataType.FP32: "f", DataType.BF16: "f", DataType.FP64: "d"}


@dataclass(frozen=True, slots=True)
class ReferenceSample:
    """A sample as it is kept: `content` is canonical JSON, and `digest` its SHA-256."""

    digest: str
    rows: int
    content: bytes


def sample_of(instances: Sequence[JsonObject]) -> ReferenceSample:
    """The sample as it is kept: the same instances give the same bytes, however they were sent."""
    text = json.dumps({"instances": instances}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    content = text.encode()
    return ReferenceSample(hashlib.sha256(content).hexdigest(), len(instances), content)


def check_sample_size(instances: Sequence[JsonObject], found: Violations) -> None:
    """Adds a sample that has no rows or too many, is too large, or holds what JSON cannot keep."""
    count = len(instances)
    found.unless(
        1 <= count <= ROWS_MAX, f"{FIELD}.instances", f"{count} instances", f"1 to {ROWS_MAX}, drawn at random"
    )
    if count > ROWS_MAX:
        return
    try:
        size = len(json.dumps({"instances": instances}, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        description = "holds a number that is not finite, or broken text; allowed: finite numbers and Unicode text"
        found.found.append(FieldViolation(FIELD, description))
        return
    found.unless(size <= JSON_BYTES_MAX, FIELD, f"{size} bytes of JSON", f"at most {JSON_BYTES_MAX}")


def check_sample(instances: Sequence[JsonObject], schema: ModelSchema) -> None:
    """Raises SCHEMA_VIOLATION naming each instance and feature that does not fit the schema."""
    found = _Faults()
    names = {spec.name for spec in schema.inputs}
    listed = ", ".join(_type_text(spec) for spec in schema.inputs)
    for place, instance in enumerate(instances):
        for name in instance:
            if name not in names:
                found.add(place, shown(name, length_max=100)[1:-1], f"is no feature; the features are {listed}")
    for spec in schema.inputs:
        _check_feature(spec, instances, found)
    if found.found:
        texts = "; ".join(f"{one.field} {one.description}" for one in found.found[:4])
        more = f"; and {len(found.found) - 4} more" if len(found.found) > 4 else ""
        takes = shown(listed, length_max=400)[1:-1]
        raise MeshError(Reason.SCHEMA_VIOLATION, f"{texts}{more}. The version takes {takes}", violations=found.found)


class _Faults:
    """What is wrong, up to a bound: whoever mends the pattern mends every row."""

    def __init__(self) -> None:
        self.found: list[FieldViolation] = []

    def add(self, place: int, name: str, description: str) -> None:
        """Notes one."""
        if len(self.found) < _VIOLATIONS_MAX:
            self.found.append(FieldViolation(f"{FIELD}.instances[{place}].{name}", description))


def _check_feature(spec: TensorSpec, instances: Sequence[JsonObject], found: _Faults) -> None:
    shape: tuple[int, ...] | None = None
    given = left_out = 0
    for place, instance in enumerate(instances):
        value = instance.get(spec.name)
        if value is None:
            if not spec.optional:
                missing = "is null" if spec.name in instance else "is missing"
                found.add(place, spec.name, f"{missing}; expected {_type_text(spec)}")
            left_out += 1
            continue
        given += 1
        flat: list[object] = []
        actual = _flatten(value, flat, 0)
        fitted = _fit(spec.shape, actual, len(flat)) if actual is not None else None
        if fitted is None:
            found.add(place, spec.name, f"has {len(flat)} values in another form; expected {_type_text(spec)}")
            continue
        if shape is not None and fitted != shape:
            found.add(place, spec.name, f"has shape {list(fitted)}, others of the sample have {list(shape)}; give one")
        shape = fitted
        fault = next((fault for item in flat if (fault := _fault(spec, item))), "")
        if fault:
            found.add(place, spec.name, fault)
    if given and left_out and spec.optional and not spec.default_json:
        found.add(0, spec.name, "is left out of some instances and has no default; give it in all or in none")


def _flatten(value: object, into: list[object], depth: int) -> tuple[int, ...] | None:
    """Appends the elements; the shape of the nest, or None where it is ragged or too deep."""
    if not isinstance(value, list | tuple):
        into.append(value)
        return ()
    if depth >= _DEPTH_MAX:
        return None
    shapes = {_flatten(item, into, depth + 1) for item in value}
    if None in shapes or len(shapes) > 1:
        return None
    return (len(value), *(next(iter(shapes), ()) or ()))


def _fit(wanted: tuple[int, ...], actual: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """The row's shape where the values fit: nested as the schema says, or flat in row-major order; else None."""
    if len(actual) == len(wanted) and all(w in (-1, a) for w, a in zip(wanted, actual, strict=True)):
        return actual
    if len(actual) > 1:
        return None
    opened = wanted.count(-1)
    known = prod(size for size in wanted if size >= 0)
    if opened == 0:
        return wanted if known == count else None
    if opened > 1 or not known or count % known:
        return None
    return tuple(count // known if size < 0 else size for size in wanted)


def _fault(spec: TensorSpec, item: object) -> str:
    """What is wrong with one element; empty: nothing."""
    kind = spec.data_type
    if kind is DataType.BYTES:
        if not isinstance(item, str):
            return f"is {shown(item)}; expected text"
        if spec.categories and item not in spec.categories:
            return f"is {shown(item)}; allowed: {', '.join(spec.categories[:20])}"
        return ""
    if kind is DataType.BOOL:
        return "" if isinstance(item, bool) else f"is {shown(item)}; expected true or false"
    if isinstance(item, bool) or not isinstance(item, int | float) or not _holds(kind, item):
        return f"is {shown(item)}; expected {kind.value}"
    low, high = spec.minimum, spec.maximum
    if (low is not None and item < low) or (high is not None and item > high):
        return f"is {shown(item)}; allowed: {_limit(low)} to {_limit(high)}"
    return ""


def _holds(kind: DataType, number: float) -> bool:
    """Whether the type has the number: no fraction is cut, nothing overflows."""
    if not math.isfinite(number):
        return False
    if kind.is_integer:
        bits = 8 * kind.size_bytes
        low, high = (0, 2**bits - 1) if kind.value.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return float(number).is_integer() and low <= int(number) <= high
    try:
        struct.pack(f"<{_FLOAT_CODES[kind]}", number)
    except OverflowError:
        return False
    return True


def _limit(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _type_text(spec: TensorSpec) -> str:
    sizes = ",".join("any" if size < 0 else str(size) for size in spec.shape)
    return f"{spec.name} {spec.data_type.value}{f'[{sizes}]' if spec.shape else ''}"
