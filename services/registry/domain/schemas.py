"""What an artifact states and what its caller declares, made into the one schema that serving goes by."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Never

from services.common.errors import FieldViolation, MeshError, Reason, shown
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.domain.declared import Declared
from services.registry.domain.reference import check_sample
from services.registry.domain.short_form import contradiction, short_form_of
from services.registry.domain.version import JsonObject
from services.registry.domain.violations import Violations

_TENSORS_MAX = 4096
_NAME_LENGTH_MAX = 256
_CATEGORIES_MAX = 10_000
_DEFAULT_LENGTH_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class StatedTensor:
    """A tensor as an artifact states it. `shape` is that of a row; None where the artifact does not say it."""

    name: str
    data_type: DataType
    shape: tuple[int, ...] | None
    categories: tuple[str, ...] = ()
    """The only texts that it knows; empty: any, or not said."""


@dataclass(frozen=True, slots=True)
class StatedSchema:
    """What an artifact states; a side is empty where it does not state that side."""

    inputs: tuple[StatedTensor, ...] = ()
    outputs: tuple[StatedTensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Agreed:
    """The schema that comes of both, and whether the "artifact" or the caller ("declared") is its source."""

    schema: ModelSchema
    source: str


def check_declared(schema: ModelSchema, violations: Violations) -> None:
    """Adds what cannot be true of any tensor."""
    for side, specs in (("inputs", schema.inputs), ("outputs", schema.outputs)):
        names = [spec.name for spec in specs]
        violations.unless(len(specs) <= _TENSORS_MAX, f"schema.{side}", len(specs), f"at most {_TENSORS_MAX} tensors")
        violations.unless(len(set(names)) == len(names), f"schema.{side}", names, "names that differ")
        for number, spec in enumerate(specs):
            _check_spec(spec, f"schema.{side}[{number}]", violations)
            optional = side == "outputs" and (spec.optional or bool(spec.default_json))
            violations.unless(not optional, f"schema.{side}[{number}].optional", True, "false: outputs always come")


def agree(
    stated: StatedSchema,
    declared: ModelSchema | None,
    *,
    inputs: Mapping[str, Declared],
    outputs: Mapping[str, Declared],
    why: str = "",
) -> Agreed:
    """One schema of what is stated, what is declared exactly and what is declared in short. `why` tells what an
    artifact of this kind leaves open.

    Raises SCHEMA_MISMATCH naming every feature that is contradicted, SCHEMA_REQUIRED where nobody says what a tensor is
    like.
    """
    exact = declared or ModelSchema()
    sides = (
        _Side("input", stated.inputs or None, exact.inputs, inputs),
        _Side("output", stated.outputs or None, exact.outputs, outputs),
    )
    violations = [violation for side in sides for violation in side.violations]
    if violations:
        raise MeshError(
            Reason.SCHEMA_MISMATCH,
            "the declared schema contradicts the model: "
            + "; ".join(f"{one.field} {one.description}" for one in violations)
            + "; declare what the model has, or leave the schema out",
            violations=violations,
        )
    unknown = [name for side in sides for name in side.unknown]
    if unknown:
        raise MeshError(
            Reason.SCHEMA_REQUIRED,
            f"the artifact does not state {', '.join(unknown)}{f' ({why})' if why else ''}; declare the tensors in "
            "schema, or their short forms in input_schema and output_schema",
        )
    source = "artifact" if stated.inputs and stated.outputs else "declared"
    return Agreed(ModelSchema(*(side.specs for side in sides)), source)


def short_schema(specs: Sequence[TensorSpec], declared: JsonObject) -> JsonObject:
    """What was declared, and where nothing was the short form of the tensors."""
    return declared or {spec.name: short_form_of(spec) for spec in specs}


class _Side:
    """The inputs or the outputs: their specs, what is contradicted, and of what nobody states the shape."""

    def __init__(
        self,
        side: str,
        stated: Sequence[StatedTensor] | None,
        exact: Sequence[TensorSpec],
        short: Mapping[str, Declared],
    ) -> None:
        self._side = side
        self._exact = {spec.name: spec for spec in exact}
        self._short = short
        self.violations: list[FieldViolation] = []
        self.unknown: list[str] = []
        if stated is None:
            names: Iterable[str] = self._exact or short
            specs = [self._exact.get(name) or short[name].spec(name) for name in names]
        else:
            specs = [self._merged(tensor) for tensor in stated]
        if not specs:
            self.unknown.append(f"the {side}s")
        self._compare(specs)
        limited = side == "input"
        self.specs = tuple(short[spec.name].limit(spec) if limited and spec.name in short else spec for spec in specs)
        if not self.violations:
            for spec in self.specs:
                self._check_default(spec)

    def _merged(self, stated: StatedTensor) -> TensorSpec:
        """The tensor with all that is known of it."""
        exact, shape = self._exact.get(stated.name), stated.shape
        if exact is None:
            if shape is None and stated.name in self._short:
                shape = self._short[stated.name].dims
            if shape is None:
                self.unknown.append(f"the shape of {self._side} {stated.name!r}")
            return TensorSpec(stated.name, stated.data_type, shape or (), categories=stated.categories)
        field = f"schema.{self._side}s.{stated.name}"
        if exact.data_type is not stated.data_type:
            self._add(field, f"is {exact.data_type} where the model has {stated.data_type}")
        merged = exact.shape if shape is None else _narrower(shape, exact.shape)
        if merged is None:
            self._add(field, f"has shape {list(exact.shape)} where the model has {list(shape or ())}")
        if stated.categories and not set(exact.categories) <= set(stated.categories):
            known = shown(", ".join(stated.categories))
            self._add(field, f"has categories that the model does not know; it knows {known}")
        return replace(
            exact,
            data_type=stated.data_type,
            shape=exact.shape if merged is None else merged,
            categories=exact.categories or stated.categories,
        )

    def _compare(self, specs: Sequence[TensorSpec]) -> None:
        by_name = {spec.name: spec for spec in specs}
        for form, declared in ((f"schema.{self._side}s", self._exact), (f"{self._side}_schema", self._short)):
            for name in [name for name in declared if name not in by_name]:
                self._add(f"{form}.{name}", f"is declared, and the model has only {shown(', '.join(by_name))}")
        for name, spec in by_name.items():
            if name in self._short:
                problem = contradiction(self._short[name], spec)
                if problem:
                    self._add(f"{self._side}_schema.{name}", problem)
            elif self._short and self._side == "input":
                # Callers who go by the declaration would leave it out of every request.
                self._add(f"input_schema.{name}", f"is missing, and the model takes {short_form_of(spec)} by that name")

    def _check_default(self, spec: TensorSpec) -> None:
        """A default must be a value that a caller could have sent."""
        if not spec.default_json:
            return
        try:
            check_sample([{spec.name: json.loads(spec.default_json)}], ModelSchema((spec,)))
        except MeshError as error:
            exact = spec.name in self._exact and self._exact[spec.name].default_json
            form = f"schema.inputs.{spec.name}.default_value" if exact else f"input_schema.{spec.name}.default"
            self._add(form, f"does not fit the feature: {error.violations[0].description}")

    def _add(self, field: str, description: str) -> None:
        self.violations.append(FieldViolation(field, description))


def _check_spec(spec: TensorSpec, field: str, violations: Violations) -> None:
    named = 0 < len(spec.name) <= _NAME_LENGTH_MAX and spec.name.isprintable()
    violations.unless(named, f"{field}.name", spec.name, f"1 to {_NAME_LENGTH_MAX} printable characters")
    sizes = len(spec.shape) <= 8 and all(size == -1 or 0 < size < 2**31 for size in spec.shape)
    violations.unless(sizes, f"{field}.shape", spec.shape, "at most 8 sizes, each -1 or from 1")
    low, high = spec.minimum, spec.maximum
    violations.unless(low is None or high is None or low <= high, f"{field}.minimum", low, f"at most {high}")
    numeric = spec.data_type.is_integer or spec.data_type.is_float
    violations.unless(numeric or (low, high) == (None, None), f"{field}.minimum", (low, high), "none but for numbers")
    finite = all(limit is None or math.isfinite(limit) for limit in (low, high))
    violations.unless(finite, f"{field}.minimum", (low, high), "finite limits, or none")
    many = len(spec.categories) <= _CATEGORIES_MAX and not any("\0" in one for one in spec.categories)
    violations.unless(
        many, f"{field}.categories", spec.categories, f"at most {_CATEGORIES_MAX} texts without the character U+0000"
    )
    fits = spec.data_type is DataType.BYTES or not spec.categories
    violations.unless(fits, f"{field}.categories", spec.categories, "none but for BYTES")
    given = not (spec.optional or spec.default_json) or _is_json(spec.default_json)
    violations.unless(
        given,
        f"{field}.default_value",
        spec.default_json,
        "JSON text without doubled keys, since the feature is optional",
    )


def _narrower(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that both allow; None where there is none."""
    if len(one) != len(other) or any(a != b and -1 not in (a, b) for a, b in zip(one, other, strict=True)):
        return None
    return tuple(max(pair) for pair in zip(one, other, strict=True))


def _is_json(text: str) -> bool:
    if len(text) > _DEFAULT_LENGTH_MAX or "\0" in text or "\\u0000" in text:
        return False
    try:
        json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _without_doubles(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is doubled")
    return found


def _no_constant(word: str) -> Never:
    raise ValueError(word)
