"""Tensors that a caller made itself (Open Inference Protocol) against a version's schema. Nothing is decoded unless a
range or categories ask for it."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, isfinite, prod
from typing import cast

import numpy as np
import numpy.typing as npt

from services.batcher.domain.instances import ROWS_MAX, FeaturePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.schema_check import Violations, range_text, schema_violation, short_name
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import as_array, shape_text, split_bytes
from services.common.errors import FieldViolation, shown
from services.common.schema import DataType, TensorSpec


class TensorPlan:
    """What a version's input tensors must be."""

    __slots__ = ("_quick", "features", "served")

    def __init__(self, served: ServedVersion, features: tuple[FeaturePlan, ...]) -> None:
        self.served = served
        self.features = features
        self._quick = tuple(
            (item.name, item.spec.data_type, item.shape, item.count * item.spec.data_type.size_bytes)
            for item in features
            if item.plain and item.count > 0 and item.spec.data_type is not DataType.BYTES
        )

    def checked(self, tensors: Sequence[Tensor]) -> tuple[int, tuple[Tensor, ...]]:
        """The rows, and the tensors in the schema's order with defaults filled in. Raises SCHEMA_VIOLATION."""
        rows = self.at_a_glance(tensors)
        return (rows, tuple(tensors)) if rows else self._carefully(tensors)

    def at_a_glance(self, tensors: Sequence[Tensor]) -> int:
        """The rows of tensors that fit whatever their elements are; 0 where they must be looked at."""
        if not len(tensors) == len(self._quick) == len(self.features):
            return 0
        rows = 0
        for tensor, (name, data_type, shape, row_bytes) in zip(tensors, self._quick, strict=True):
            given = tensor.shape
            if tensor.name != name or tensor.data_type is not data_type or given[1:] != shape or not given:
                return 0
            if rows not in (0, given[0]) or not 0 < given[0] <= ROWS_MAX:
                return 0
            rows = given[0]
            if len(tensor.data) != rows * row_bytes:
                return 0
        return rows

    def _carefully(self, tensors: Sequence[Tensor]) -> tuple[int, tuple[Tensor, ...]]:
        violations = Violations()
        by_name = self._by_name(tensors, violations)
        rows = self._rows(by_name, violations)
        ordered: list[Tensor] = []
        for feature in self.features:
            tensor = by_name.get(feature.name)
            if tensor is not None:
                _check(feature.spec, tensor, violations)
            elif not feature.spec.optional:
                violations.add(feature.name, f"is missing; expected {shape_text(feature.spec)} for each row")
            elif feature.default is not None and not violations.found:
                shape, data = feature.default
                tensor = Tensor(feature.name, feature.spec.data_type, (rows, *shape), data * rows)
            if tensor is not None:
                ordered.append(tensor)
        if violations.found:
            raise schema_violation(self.served, violations.found)
        return rows, tuple(ordered)

    def _by_name(self, tensors: Sequence[Tensor], violations: Violations) -> Mapping[str, Tensor]:
        known = dict.fromkeys(feature.name for feature in self.features)
        by_name: dict[str, Tensor] = {}
        for tensor in tensors:
            if tensor.name not in known:
                names = shown(", ".join(known), length_max=400)[1:-1]
                violations.add(short_name(tensor.name) or "inputs", f"is no input; the inputs are {names}")
                if violations.full:
                    break
            elif tensor.name in by_name:
                violations.add(tensor.name, "is given twice; give each input once")
            else:
                by_name[tensor.name] = tensor
        return by_name

    def _rows(self, by_name: Mapping[str, Tensor], violations: Violations) -> int:
        rows = 0
        for name, tensor in by_name.items():
            first = tensor.shape[0] if tensor.shape else 0
            if not 1 <= first <= ROWS_MAX:
                violations.add(name, f"has shape {_shape(tensor)}; the first dimension is the rows, 1 to {ROWS_MAX}")
            elif rows not in (0, first):
                violations.add(name, f"has {first} rows, others have {rows}; give every input the same")
            else:
                rows = first
        if not by_name:
            violations.add("inputs", "holds no input of the model")
        return rows


def output_violation(served: ServedVersion, name: str) -> FieldViolation:
    """What is wrong with asking for an output that there is not."""
    names = ", ".join(spec.name for spec in served.schema.outputs)
    return FieldViolation("outputs", f"{shown(name)} is no output of {served.model_name}; the outputs are {names}")


def _check(spec: TensorSpec, tensor: Tensor, violations: Violations) -> None:
    name = spec.name
    if tensor.data_type is not spec.data_type:
        violations.add(name, f"has datatype {tensor.data_type.value}; expected {spec.data_type.value}")
        return
    inner = tensor.shape[1:]
    fits = len(inner) == len(spec.shape) and all(
        want in (-1, size) and size >= 0 for size, want in zip(inner, spec.shape, strict=True)
    )
    if not fits:
        violations.add(name, f"has shape {_shape(tensor)}; expected {[-1, *spec.shape]}, -1 standing for any size")
        return
    elements = max(prod(tensor.shape), 0)
    if spec.data_type is DataType.BYTES:
        _check_bytes(spec, tensor, elements, violations)
        return
    size = elements * spec.data_type.size_bytes
    if len(tensor.data) != size:
        violations.add(name, f"has {len(tensor.data)} bytes; shape {list(tensor.shape)} takes {size}")
        return
    if spec.minimum is not None or spec.maximum is not None or spec.categories:
        _check_numbers(spec, tensor, violations)


def _shape(tensor: Tensor) -> str:
    return shown(list(tensor.shape), length_max=100)


def _check_bytes(spec: TensorSpec, tensor: Tensor, elements: int, violations: Violations) -> None:
    try:
        values = split_bytes(tensor.data)
    except ValueError as error:
        violations.add(
            spec.name, f"is no list of BYTES: {error}; each element is preceded by its 4-byte little-endian length"
        )
        return
    if len(values) != elements:
        violations.add(spec.name, f"has {len(values)} elements; shape {list(tensor.shape)} takes {elements}")
        return
    if spec.categories:
        allowed = {category.encode() for category in spec.categories}
        for place, value in enumerate(values):
            if value not in allowed:
                _refuse(spec, place, value.decode(errors="replace"), ", ".join(spec.categories[:20]), violations)
                return


def _check_numbers(spec: TensorSpec, tensor: Tensor, violations: Violations) -> None:
    array = as_array(spec.data_type, tensor.data)
    wrong = _outside(spec, array) if spec.data_type is not DataType.BOOL else np.zeros(0, bool)
    if wrong.any():
        place = int(wrong.argmax())
        _refuse(spec, place, array[place].item(), range_text(spec.minimum, spec.maximum), violations)
    elif spec.categories:
        for place, value in enumerate(array.tolist()):
            if str(value) not in spec.categories:
                _refuse(spec, place, value, ", ".join(spec.categories[:20]), violations)
                return


def _outside(spec: TensorSpec, array: "npt.NDArray[np.generic]") -> "npt.NDArray[np.bool_]":
    """Which elements lie outside the limits."""
    low, high = spec.minimum, spec.maximum
    numbers = array.astype(np.float64) if spec.data_type.is_float else cast("npt.NDArray[np.int64]", array)
    if spec.data_type.is_integer:
        # With whole limits they are compared as whole numbers: doubles do not tell the largest ones apart.
        low = ceil(low) if low is not None and isfinite(low) else low
        high = floor(high) if high is not None and isfinite(high) else high
    fits = np.ones(len(numbers), bool)  # and not what is wrong, so that NaN fits no range
    if low is not None:
        fits &= numbers >= low
    if high is not None:
        fits &= numbers <= high
    return ~fits


def _refuse(spec: TensorSpec, place: int, value: object, allowed: str, violations: Violations) -> None:
    violations.add(f"{spec.name}[{place}]", f"is {shown(value)}; allowed: {allowed}")
