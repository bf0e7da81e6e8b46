"""Instances become tensors: one plan for each version, compiled when the serving table changes.

The common case (every feature given, numbers of the right kind) takes a few microseconds a row: types are compared as a
set and the numbers packed in one call. Whatever is not the common case goes through `schema_check`, which converts what
may be converted and otherwise says exactly what is wrong where.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import cast

from services.batcher.domain.request import Tensor
from services.batcher.domain.schema_check import (
    Violations,
    check_value,
    expected,
    schema_violation,
    short_name,
    with_reachable_limits,
)
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import STRUCT_CODES, Value, count_of, kinds_of, pack, shape_text
from services.common.errors import MeshError, Reason, shown
from services.common.schema import TensorSpec

ROWS_MAX = 65_536
"""The most instances in one request."""

Row = Mapping[str, object]
"""One instance: plain values or lists of them, by feature."""
_Encoded = tuple[tuple[int, ...], bytes]


class FeaturePlan:
    """How one feature's column becomes a tensor. Raises INVALID_FIELD where its default does not fit it."""

    __slots__ = (
        "_categories",
        "_code",
        "_kinds",
        "_one_row",
        "_scalar",
        "count",
        "default",
        "name",
        "plain",
        "shape",
        "spec",
    )

    def __init__(self, spec: TensorSpec) -> None:
        spec = with_reachable_limits(spec)
        self.spec = spec
        self.name = spec.name
        self.shape = spec.shape
        self.count = count_of(spec.shape)
        self._scalar = not spec.shape
        self.plain = spec.minimum is None and spec.maximum is None and not spec.categories
        """Whether any value of the element type will do: no range, no categories."""
        self._categories: frozenset[Value] = frozenset(spec.categories)
        self._kinds = kinds_of(spec.data_type)
        self._code = STRUCT_CODES.get(spec.data_type, "")
        self._one_row = struct.Struct(f"<{self.count}{self._code}") if self._code and self.count >= 0 else None
        self.default = _default(spec)
        """The shape and bytes of one row that left the feature out; None where it has no default."""

    def quick(self, column: list[object]) -> bytes | None:
        """The bytes of a column in the common case; None where a closer look is needed."""
        flat: Sequence[object]
        if self.count < 0:
            return None
        if self._scalar:
            flat = column
        else:
            count = self.count
            for value in column:
                if type(value) is not list or len(value) != count:
                    return None
            rows = cast("list[list[object]]", column)
            flat = rows[0] if len(rows) == 1 else list(chain.from_iterable(rows))
        if not self._kinds.issuperset(map(type, flat)):
            return None
        values = cast("Sequence[Value]", flat)
        if not self.plain and not self._allowed(values):
            return None
        try:
            if self._one_row is None:
                return pack(self.spec.data_type, values)
            if len(column) == 1:
                return self._one_row.pack(*values)
            return struct.pack(f"<{len(values)}{self._code}", *values)
        except (struct.error, OverflowError):
            return None

    def careful(self, rows: Sequence[Row], violations: Violations, prefix: str) -> _Encoded | None:
        """Shape of a row and bytes of the column, or what is wrong, added to `violations`. None also where an optional
        feature without default was left out everywhere."""
        values: list[bytes] = []
        shape: tuple[int, ...] | None = None
        left_out: list[int] = []
        for place, row in enumerate(rows):
            path = f"{prefix}[{place}].{self.name}"
            given = row.get(self.name)
            if given is None and (self.name not in row or self.spec.optional):
                encoded = self._left_out(path, violations)
                if encoded is None:
                    left_out.append(place)
            else:
                encoded = check_value(self.spec, given, path, violations)
            if encoded is None:
                if violations.full:
                    return None
                continue
            if shape is not None and encoded[0] != shape:
                violations.add(
                    path,
                    f"has shape {list(encoded[0])}, others of this request have {list(shape)}; "
                    "send rows of one size in one request",
                )
            shape = encoded[0]
            values.append(encoded[1])
        if left_out and values and self.spec.optional:
            violations.add(
                f"{prefix}[{left_out[0]}].{self.name}",
                "is left out here but given elsewhere, and has no default; give it in every instance or in none",
            )
        return (shape, b"".join(values)) if shape is not None else None

    def _left_out(self, path: str, violations: Violations) -> _Encoded | None:
        if not self.spec.optional:
            violations.add(path, f"is missing; expected {expected(self.spec)}")
        return self.default if self.spec.optional else None

    def _allowed(self, values: Sequence[Value]) -> bool:
        spec = self.spec
        if self._categories:
            return self._categories.issuperset(values)
        numbers = cast("Sequence[float]", values)
        # NaN fails every comparison with itself, wherever min and max would have put it.
        return all(
            (spec.minimum is None or number >= spec.minimum) and (spec.maximum is None or number <= spec.maximum)
            for number in numbers
        )


class InstancePlan:
    """How a version's instances become its input tensors."""

    __slots__ = ("_by_name", "_names", "features", "served")

    def __init__(self, served: ServedVersion) -> None:
        self.served = served
        self.features = tuple(FeaturePlan(spec) for spec in served.schema.inputs)
        self._by_name = {feature.name: feature for feature in self.features}
        self._names = frozenset(self._by_name)

    def tensors(self, rows: Sequence[Row], *, prefix: str = "instances") -> tuple[Tensor, ...]:
        """The input tensors of at least one row, in the schema's order. Raises SCHEMA_VIOLATION naming each fault as
        `prefix[row].feature`."""
        if not self._names_fit(rows):
            return self._carefully(rows, prefix)
        tensors: list[Tensor] = []
        count = len(rows)
        for feature in self.features:
            name = feature.name
            data = feature.quick([row[name] for row in rows])
            if data is None:
                return self._carefully(rows, prefix, tensors)
            tensors.append(Tensor(name, feature.spec.data_type, (count, *feature.shape), data))
        return tuple(tensors)

    def _names_fit(self, rows: Sequence[Row]) -> bool:
        names = self._names
        return all(row.keys() == names for row in rows)

    def _carefully(self, rows: Sequence[Row], prefix: str, done: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """`done`: the tensors of the first features, which were found to fit."""
        violations = Violations()
        self._note_unknown(rows, violations, prefix)
        tensors = list(done)
        count = len(rows)
        for feature in self.features[len(done) :]:
            quick = feature.quick([row.get(feature.name) for row in rows])
            encoded = (feature.shape, quick) if quick is not None else feature.careful(rows, violations, prefix)
            if encoded is not None:
                shape, data = encoded
                tensors.append(Tensor(feature.name, feature.spec.data_type, (count, *shape), data))
        if violations.found:
            raise schema_violation(self.served, violations.found)
        return tuple(tensors)

    def _note_unknown(self, rows: Sequence[Row], violations: Violations, prefix: str) -> None:
        for place, row in enumerate(rows):
            for name in row:
                if name in self._names:
                    continue
                path = f"{prefix}[{place}].{short_name(name)}"
                violations.add(path, f"is no feature; the features are {self._listed()}")
                if violations.full:
                    return

    def _listed(self) -> str:
        return shown(", ".join(f"{item.name} {shape_text(item.spec)}" for item in self.features), length_max=300)[1:-1]


def _default(spec: TensorSpec) -> _Encoded | None:
    if not spec.optional or not spec.default_json:
        return None
    violations = Violations()
    try:
        # As the registry reads it: NaN, which is no JSON, is what many models know a missing number by.
        encoded = check_value(spec, json.loads(spec.default_json), "default_value", violations)
    except ValueError as error:
        violations.add("default_value", f"is {shown(spec.default_json)}; allowed: JSON text ({error})")
        encoded = None
    if encoded is None:
        found = violations.found[0]
        raise MeshError(Reason.INVALID_FIELD, f"feature {spec.name}: {found.field} {found.description}")
    return encoded
