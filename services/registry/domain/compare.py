"""What breaks callers of one version who are sent to another: their schemas compared, feature by feature.

A caller is right for the older version if it sends what that takes and handles what that gives. So the newer version
must take at least as much and give at most as much; where it does not, the difference is breaking. Callers who send
typed tensors count too, so every change of an element type breaks.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.common.schema import ModelSchema, TensorSpec

INPUTS, OUTPUTS = "inputs", "outputs"


@dataclass(frozen=True, slots=True)
class Difference:
    """How one tensor differs. `before` and `after` are texts; empty: it was not there, or is gone."""

    side: str
    name: str
    kind: str
    before: str
    after: str
    breaking: bool
    advice: str


def compare(base: ModelSchema, newer: ModelSchema) -> Sequence[Difference]:
    """Every difference, breaking ones first, then in the order of inputs, outputs and names."""
    found = [
        *_compare_side(INPUTS, base.inputs, newer.inputs),
        *_compare_side(OUTPUTS, base.outputs, newer.outputs),
    ]
    return sorted(found, key=lambda one: (not one.breaking, one.side, one.name, one.kind))


def _compare_side(side: str, base: Sequence[TensorSpec], newer: Sequence[TensorSpec]) -> Iterator[Difference]:
    before, after = ({spec.name: spec for spec in specs} for specs in (base, newer))
    gone = [spec for name, spec in before.items() if name not in after]
    come = [spec for name, spec in after.items() if name not in before]
    if len(gone) == len(come) == 1 and _form(gone[0]) == _form(come[0]):
        old, new = gone[0].name, come[0].name
        verb = "send" if side == INPUTS else "read"
        yield Difference(side, old, "renamed", old, new, True, f"{verb} {new!r} in place of {old!r}")
    else:
        yield from (_removed(side, spec) for spec in gone)
        yield from (_added(side, spec) for spec in come)
    for name in before.keys() & after.keys():
        for compare_one in _COMPARISONS:
            yield from compare_one(side, before[name], after[name])


def _removed(side: str, spec: TensorSpec) -> Difference:
    advice = f"stop sending {spec.name!r}" if side == INPUTS else f"do without {spec.name!r}"
    return Difference(side, spec.name, "removed", _form(spec), "", True, advice)


def _added(side: str, spec: TensorSpec) -> Difference:
    needed = side == INPUTS and not spec.optional
    advice = f"send {spec.name!r} with every instance" if needed else f"nothing; {spec.name!r} may be ignored"
    return Difference(side, spec.name, "added", "", _form(spec), needed, advice)


def _type(side: str, old: TensorSpec, new: TensorSpec) -> Iterator[Difference]:
    if old.data_type is not new.data_type:
        advice = f"{'send' if side == INPUTS else 'expect'} {new.data_type} for {new.name!r}"
        yield Difference(side, new.name, "type", old.data_type, new.data_type, True, advice)


def _shape(side: str, old: TensorSpec, new: TensorSpec) -> Iterator[Difference]:
    if old.shape != new.shape:
        wider, narrower = (new.shape, old.shape) if side == INPUTS else (old.shape, new.shape)
        fits = len(wider) == len(narrower) and all(a in (-1, b) for a, b in zip(wider, narrower, strict=True))
        before, after = str(list(old.shape)), str(list(new.shape))
        if fits and side == INPUTS and old.shape.count(-1) <= 1 < new.shape.count(-1):
            # A flat list has one shape as long as at most one size is open.
            advice = f"send nested lists for {new.name!r}, no flat ones"
            yield Difference(side, new.name, "shape", before, after, True, advice)
            return
        verb = "send" if side == INPUTS else "expect"
        yield _changed(side, new, "shape", before, after, fits=fits, verb=verb)


def _optional(side: str, old: TensorSpec, new: TensorSpec) -> Iterator[Difference]:
    if old.optional != new.optional:
        before, after = ("optional" if spec.optional else "required" for spec in (old, new))
        advice = f"nothing; {new.name!r} may be left out" if new.optional else f"send {new.name!r} with every instance"
        yield Difference(side, new.name, "optional", before, after, not new.optional, advice)


def _range(side: str, old: TensorSpec, new: TensorSpec) -> Iterator[Difference]:
    if (old.minimum, old.maximum) != (new.minimum, new.maximum):
        wider, narrower = (reachable(new), reachable(old)) if side == INPUTS else (reachable(old), reachable(new))
        # Limits may leave out all values that the type has: then none was right that could go wrong.
        fits = narrower[0] > narrower[1] or (wider[0] <= narrower[0] and narrower[1] <= wider[1])
        verb = "keep within" if side == INPUTS else "expect values within"
        yield _changed(side, new, "range", _limits(old), _limits(new), fits=fits, verb=verb)


def reachable(spec: TensorSpec) -> tuple[float, float]:
    """The least and the greatest value that is allowed and that the type has; infinite where nothing limits it."""
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    if not spec.data_type.is_integer:
        return (low, high) if spec.data_type.is_float else (-math.inf, math.inf)
    bits = 8 * spec.data_type.size_bytes
    signed = not spec.data_type.startswith("U")
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return (
        max(least, math.ceil(low)) if math.isfinite(low) else least,
        min(most, math.floor(high)) if math.isfinite(high) else most,
    )


def _categories(side: str, old: TensorSpec, new: TensorSpec) -> Iterator[Difference]:
    if set(old.categories) != set(new.categories):
        wider, narrower = (new, old) if side == INPUTS else (old, new)
        fits = not wider.categories or (bool(narrower.categories) and set(narrower.categories) <= set(wider.categories))
        verb = "send only" if side == INPUTS else "expect"
        before, after = (", ".join(spec.categories) or "any" for spec in (old, new))
        yield _changed(side, new, "categories", before, after, fits=fits, verb=verb)


def _default(side: str, old: TensorSpec, new: TensorSpec) -> Iterator[Difference]:
    if old.optional and new.optional and old.default_json != new.default_json:
        # What was right stays right; only what stands in for what was left out is another.
        advice = f"send {new.name!r} where the default matters"
        yield Difference(side, new.name, "default", old.default_json, new.default_json, False, advice)


_Comparison = Callable[[str, TensorSpec, TensorSpec], Iterator[Difference]]
_COMPARISONS: Sequence[_Comparison] = (_type, _shape, _optional, _range, _categories, _default)


def _changed(side: str, spec: TensorSpec, kind: str, before: str, after: str, *, fits: bool, verb: str) -> Difference:
    advice = f"nothing; what was right for {spec.name!r} stays right" if fits else f"{verb} {after} for {spec.name!r}"
    return Difference(side, spec.name, kind, before, after, not fits, advice)


def _form(spec: TensorSpec) -> str:
    return f"{spec.data_type} {list(spec.shape)}"


def _limits(spec: TensorSpec) -> str:
    low, high = ("any" if limit is None else f"{limit:g}" for limit in (spec.minimum, spec.maximum))
    return f"{low} to {high}"
