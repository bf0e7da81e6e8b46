"""Whether values fit a feature, and if not, where and why: the careful twin of the quick path in `instances`."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import cast

from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import Value, kinds_of, pack, shape_text, unpack
from services.common.errors import FieldViolation, MeshError, Reason, shown
from services.common.schema import DataType, TensorSpec

VIOLATIONS_MAX = 16
"""The most that one answer names: trailers have bounds, and a caller mends the pattern, not each row."""
_MESSAGE_VIOLATIONS_MAX = 4
_DEPTH_MAX = 16
_NAME_LENGTH_MAX = 100
_NESTS: frozenset[type] = frozenset({list, tuple})


@dataclass(slots=True)
class Violations:
    """What is wrong with a request, found so far."""

    found: list[FieldViolation] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether looking further would change nothing."""
        return len(self.found) >= VIOLATIONS_MAX

    def add(self, path: str, description: str) -> None:
        """Notes one, unless there are enough."""
        if not self.full:
            self.found.append(FieldViolation(path, description))


def schema_violation(served: ServedVersion, violations: Sequence[FieldViolation]) -> MeshError:
    """SCHEMA_VIOLATION that names what is wrong and what the version takes."""
    texts = [f"{item.field} {item.description}" for item in violations[:_MESSAGE_VIOLATIONS_MAX]]
    more = len(violations) - len(texts)
    features = ", ".join(f"{spec.name} {shape_text(spec)}" for spec in served.schema.inputs[:32])
    return MeshError(
        Reason.SCHEMA_VIOLATION,
        f"{'; '.join(texts)}{f'; and {more} more' if more > 0 else ''}. "
        f"{served.model_name} {served.version} takes {shown(features, length_max=400)[1:-1]}",
        metadata={"model_name": served.model_name, "version": served.version},
        violations=violations,
    )


def short_name(name: str) -> str:
    """A name that a caller chose, as a path quotes it: callers may choose megabytes."""
    return name if len(name) <= _NAME_LENGTH_MAX else f"{name[:_NAME_LENGTH_MAX]}…"


def with_reachable_limits(spec: TensorSpec) -> TensorSpec:
    """The spec, each limit widened to the number that the element type makes of it: 0.1 in single precision is a bit
    more than 0.1, and whoever sends the largest value allowed must not be refused for that."""
    if not spec.data_type.is_float:
        return spec
    low, high = spec.minimum, spec.maximum
    return replace(
        spec,
        minimum=None if low is None else min(low, _rounded(spec.data_type, low)),
        maximum=None if high is None else max(high, _rounded(spec.data_type, high)),
    )


def _rounded(data_type: DataType, limit: float) -> float:
    try:
        (value,) = unpack(data_type, pack(data_type, (limit,)))
    except OverflowError:  # beyond all values of the type
        return limit
    return float(value)


def expected(spec: TensorSpec) -> str:
    """What one instance must give for a feature, for people."""
    if not spec.shape:
        return f"one value of {spec.data_type.value}"
    if all(size >= 0 for size in spec.shape):
        count = prod(spec.shape)
        return f"{count} value{'' if count == 1 else 's'} of {spec.data_type.value}"
    return f"values of {shape_text(spec)}"


def check_value(
    spec: TensorSpec, value: object, path: str, violations: Violations
) -> tuple[tuple[int, ...], bytes] | None:
    """The row's shape and the bytes of its elements in row-major order. None: noted in `violations`."""
    if value is None:
        violations.add(path, f"is null; expected {expected(spec)}")
        return None
    if isinstance(value, dict):
        violations.add(path, f"expected {expected(spec)}, got an object")
        return None
    flat: list[object] = []
    actual = _flatten(value, flat, 0)
    if actual is None:
        violations.add(path, f"expected {expected(spec)}, got lists of different lengths")
        return None
    shape = fit_shape(spec, actual, len(flat))
    if shape is None:
        violations.add(path, f"expected {expected(spec)}, got {_got(value, actual, len(flat))}")
        return None
    data = _packed(spec, flat, path, violations, indexed=bool(actual))
    return (shape, data) if data is not None else None


def list_bytes(data_type: DataType, value: object, path: str, violations: Violations) -> bytes | None:
    """The bytes of a list's elements, nested or flat. None: noted in `violations`."""
    flat: list[object] = []
    if not isinstance(value, list):
        got = "an object" if isinstance(value, dict) else _shown(value)
        violations.add(path, f"expected a list of {data_type.value}, got {got}")
        return None
    if _flatten(value, flat, 0) is None:
        violations.add(path, f"expected a list of {data_type.value}, got lists of different lengths")
        return None
    return _packed(TensorSpec("", data_type), flat, path, violations, indexed=True)


def _packed(
    spec: TensorSpec, flat: Sequence[object], path: str, violations: Violations, *, indexed: bool
) -> bytes | None:
    data_type = spec.data_type
    free = spec.minimum is None and spec.maximum is None and not spec.categories
    if free and kinds_of(data_type).issuperset(map(type, flat)):
        try:  # All at once: a megabyte of numbers must not hold the loop for a second.
            return pack(data_type, cast("Sequence[Value]", flat))
        except (struct.error, OverflowError):
            pass
    elements: list[Value] = []
    for place, item in enumerate(flat):
        element = _element(spec, item, f"{path}[{place}]" if indexed else path, violations)
        if element is not None:
            elements.append(element)
        elif violations.full:
            return None
    return pack(data_type, elements) if len(elements) == len(flat) else None


def fit_shape(spec: TensorSpec, actual: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """The row's shape where what was given fits: nested as the schema says, or flat in row-major order."""
    wanted = spec.shape
    if len(actual) == len(wanted) and all(
        size in (want, -1) or want < 0 for size, want in zip(actual, wanted, strict=True)
    ):
        return actual
    if len(actual) > 1:
        return None
    if not actual:  # a single value stands for a list of one
        return tuple(1 for _ in wanted) if all(size in (1, -1) for size in wanted) else None
    opened = [place for place, size in enumerate(wanted) if size < 0]
    if not opened:
        return wanted if prod(wanted) == count else None
    known = prod(size for size in wanted if size >= 0)
    if len(opened) > 1 or known == 0 or count % known:
        return None
    return tuple(count // known if size < 0 else size for size in wanted)


def _flatten(value: object, into: list[object], depth: int) -> tuple[int, ...] | None:
    """Appends the elements; the shape of the nest, or None where it is ragged or too deep."""
    if not isinstance(value, list | tuple):
        into.append(value)
        return ()
    if depth >= _DEPTH_MAX:
        return None
    if _NESTS.isdisjoint(map(type, value)):
        into.extend(value)
        return (len(value),)
    inner: tuple[int, ...] | None = None
    for item in value:
        shape = _flatten(item, into, depth + 1)
        if shape is None or (inner is not None and shape != inner):
            return None
        inner = shape
    return (len(value), *(inner or ()))


def _got(value: object, actual: tuple[int, ...], count: int) -> str:
    if not actual:
        return shown(value)
    if len(actual) == 1:
        return str(count)
    return f"a nest of {'×'.join(map(str, actual))}"


def _element(spec: TensorSpec, item: object, path: str, violations: Violations) -> Value | None:
    """One element as `pack` takes it. None: noted."""
    value = _convert(spec.data_type, item)
    if value is None:
        violations.add(path, f"expected {_kind(spec.data_type)}, got {_shown(item)}")
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = spec.minimum, spec.maximum
        # Written so that NaN fits no range.
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            violations.add(path, f"is {shown(item)}; allowed: {range_text(low, high)}")
            return None
    if spec.categories and _category(value) not in spec.categories:
        names = ", ".join(spec.categories[:20]) + (", …" if len(spec.categories) > 20 else "")
        violations.add(path, f"is {shown(item)}; allowed: {names}")
        return None
    return value


def _convert(data_type: DataType, item: object) -> Value | None:
    """`item` where a feature of this type takes it: no fraction is cut, no text is read as a number."""
    if data_type is DataType.BYTES:
        return item if isinstance(item, str | bytes) else None
    if isinstance(item, bool) or data_type is DataType.BOOL:
        return item if isinstance(item, bool) and data_type is DataType.BOOL else None
    if not isinstance(item, int | float):
        return None
    if data_type.is_integer and isinstance(item, float):
        if not item.is_integer():
            return None
        item = int(item)
    try:
        pack(data_type, (item,))
    except (struct.error, OverflowError):
        return None
    return item


def _category(value: Value) -> str:
    # Bytes that are no text are in no category, whatever letter would stand in for them.
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def _kind(data_type: DataType) -> str:
    return "text (BYTES)" if data_type is DataType.BYTES else data_type.value


def _shown(item: object) -> str:
    if isinstance(item, dict):
        return "an object"
    return {True: "true", False: "false"}[item] if isinstance(item, bool) else "null" if item is None else shown(item)


def range_text(low: float | None, high: float | None) -> str:
    """The values between two limits, one of which may be absent."""
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
