"""What feature views may say, by themselves and of the version that they belong to."""

import json
import math
import re
from collections.abc import Mapping, Sequence

from services.common.errors import FieldViolation, MeshError, Reason, invalid, shown
from services.common.feature_view import FeatureView, OnMissing
from services.common.schema import ModelSchema, TensorSpec
from services.registry.domain.declared import Declared
from services.registry.domain.short_form import contradiction, parse_short_form, short_form_of
from services.registry.domain.violations import Violations

VIEWS_MAX = 32
FEATURES_MAX = 1024
DEFAULTS_BYTES_MAX = 64 * 1024
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_NAME_ALLOWED = "1 to 63 of a-z, A-Z, 0-9, '-' and '_', beginning with a letter"
_AGE_MAX_S = 10 * 366 * 86_400.0


def check_views(views: Sequence[FeatureView], found: Violations) -> None:
    """Adds what is wrong whatever the version takes."""
    names = [view.name for view in views]
    found.unless(len(views) <= VIEWS_MAX, "feature_views", f"{len(views)} views", f"at most {VIEWS_MAX}")
    found.unless(len(set(names)) == len(names), "feature_views", names, "names that differ")
    count = sum(len(view.features) for view in views)
    found.unless(count <= FEATURES_MAX, "feature_views", f"{count} features", f"at most {FEATURES_MAX}")
    owners: dict[str, str] = {}
    for view in views:
        field = f"feature_views.{view.name or '(no name)'}"
        _check_view(view, field, found)
        for feature in view.features:
            other = owners.setdefault(feature, view.name)
            found.unless(
                other == view.name, f"{field}.features.{feature}", feature, f"one view only, and {other} has it"
            )


def check_views_fit(views: Sequence[FeatureView], schema: ModelSchema) -> None:
    """Raises SCHEMA_MISMATCH naming each view and feature that the version does not take, or takes otherwise."""
    specs = {spec.name: spec for spec in schema.inputs}
    listed = shown(", ".join(f"{spec.name} {short_form_of(spec)}" for spec in schema.inputs), length_max=300)[1:-1]
    violations: list[FieldViolation] = []
    for view in views:
        for feature, declared in parse_short_form(view.features, f"feature_views.{view.name}.features").items():
            field, spec = f"feature_views.{view.name}.features.{feature}", specs.get(feature)
            if spec is None:
                violations.append(FieldViolation(field, f"is no input of the version; the inputs are {listed}"))
                continue
            if problem := contradiction(declared, spec):
                violations.append(FieldViolation(field, problem))
            if view.on_missing is OnMissing.DEFAULT and feature in view.defaults:
                violations += _default_problems(view, spec, declared)
    if violations:
        raise MeshError(
            Reason.SCHEMA_MISMATCH,
            "the feature views do not fit the model: "
            + "; ".join(f"{one.field} {one.description}" for one in violations)
            + "; name inputs of the model, with the types that it has",
            violations=violations,
        )


def _check_view(view: FeatureView, field: str, found: Violations) -> None:
    for name, value in (("name", view.name), ("entity", view.entity)):
        found.unless(_NAME.fullmatch(value) is not None, f"{field}.{name}", value, _NAME_ALLOWED)
    found.unless(bool(view.features), f"{field}.features", {}, "at least one feature")
    found.unless(view.entity not in view.features, f"{field}.entity", view.entity, "a key that is none of its features")
    found.check(lambda: parse_short_form(view.features, f"{field}.features"))
    age = view.max_age_s
    found.unless(math.isfinite(age) and 0 <= age <= _AGE_MAX_S, f"{field}.max_age_s", age, f"0 to {_AGE_MAX_S:g}")
    if view.on_missing is OnMissing.ERROR:
        found.unless(
            not view.defaults, f"{field}.defaults", dict(view.defaults), 'none, unless on_missing is "default"'
        )
        return
    found.unless(bool(view.defaults), f"{field}.defaults", {}, 'at least one value, since on_missing is "default"')
    for feature in view.defaults:
        known = ", ".join(view.features)
        found.unless(feature in view.features, f"{field}.defaults.{feature}", feature, f"features of the view: {known}")
    found.check(lambda: _check_defaults(view.defaults, f"{field}.defaults"))


def _check_defaults(defaults: Mapping[str, object], field: str) -> None:
    size = len(json.dumps(defaults).encode())
    if size > DEFAULTS_BYTES_MAX:
        raise invalid(field, f"{size} bytes of JSON", f"at most {DEFAULTS_BYTES_MAX}")
    if "\\u0000" in json.dumps(defaults):
        raise invalid(field, dict(defaults), "text without the character U+0000")


def _default_problems(view: FeatureView, spec: TensorSpec, declared: Declared) -> Sequence[FieldViolation]:
    """What of a default no row of the feature could be. Ranges and categories of the schema count too."""
    field = f"feature_views.{view.name}.defaults.{spec.name}"
    value = view.defaults[spec.name]
    shape = _shape(value)
    fixed = math.prod(spec.shape) if all(size >= 0 for size in spec.shape) else None
    flat = _flat(value)
    if shape is None or (fixed is not None and len(flat) != fixed):
        wanted = "one value" if not spec.shape else f"values of shape {list(spec.shape)}"
        return [FieldViolation(field, f"is {shown(value)}; allowed: {wanted}")]
    wrong = next((item for item in flat if not _fits(item, spec, declared.kind)), None)
    if wrong is None:
        return []
    return [FieldViolation(field, f"holds {shown(wrong)}; allowed: {declared.kind} values that the schema allows")]


def _fits(item: object, spec: TensorSpec, kind: str) -> bool:
    if kind in ("string", "object"):
        return isinstance(item, str) and (not spec.categories or item in spec.categories)
    if kind == "bool" or isinstance(item, bool):
        return kind == "bool" and isinstance(item, bool)
    if not isinstance(item, int | float) or (kind == "int" and float(item) != int(item)):
        return False
    return (spec.minimum is None or item >= spec.minimum) and (spec.maximum is None or item <= spec.maximum)


def _shape(value: object) -> tuple[int, ...] | None:
    """The shape of a nest of lists; None where it is ragged, or holds what is neither list nor plain value."""
    if not isinstance(value, list):
        return () if isinstance(value, str | bool | int | float) else None
    inner = {_shape(item) for item in value}
    if not inner:
        return (0,)
    only = inner.pop()
    return None if inner or only is None else (len(value), *only)


def _flat(value: object) -> list[object]:
    return [part for item in value for part in _flat(item)] if isinstance(value, list) else [value]
