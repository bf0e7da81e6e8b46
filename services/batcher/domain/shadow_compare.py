"""The answer of a shadow copy beside the answer that the caller got: do they agree, and if not, where.

Classes are compared by their names, since versions may order them differently; numbers as doubles, whatever type they
came as, NaN being near to NaN. An output that the caller got and the copy lacks, or has in another shape, is a
disagreement of every row: whoever reads it would miss it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan, prod

import numpy as np
import numpy.typing as npt

from services.batcher.domain.outputs import OutputPlan, Scores, float_rows, row_values
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.row_labels import has_classes, row_labels
from services.batcher.domain.serving import ShadowComparison
from services.batcher.domain.tensors import as_array
from services.common.schema import DataType

EXAMPLE_LENGTH_MAX = 2000
"""Characters of one answer in an example."""
_VALUES_MAX = 32
"""Numbers of one output in an example."""
_TEXT_MAX = 200
_NOWHERE = 1 << 62
_SPARE = 40
"""Characters kept for saying how much was left out."""
REDACTED = "[redacted]"
"""In place of the value of an output that nobody may read in the log."""
_LEFT_OUT = "..."
"""The key under which an example says how much of it was left out."""

Doubles = npt.NDArray[np.float64]


@dataclass(slots=True)
class Answered:
    """What a version said."""

    plan: OutputPlan
    result: InferResult
    scores: Scores | None
    """What its probabilities say; None where it has none or they were not asked for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How two answers compare."""

    agree: bool
    row: int = 0
    """The first row that is different."""
    difference: float = 0.0
    """The largest difference of a number, or of the probability of the caller's class in that row; always finite. 0
    where what differs are no numbers."""


_AGREE = Verdict(True)


def method_of(rule: ShadowComparison, primary: OutputPlan, shadow: OutputPlan) -> str:
    """How answers of these versions are compared."""
    return rule.method or ("label" if has_classes(primary) and has_classes(shadow) else "tolerance")


def outputs_to_ask(answered: Sequence[Tensor], shadow: OutputPlan, *, method: str) -> tuple[str, ...]:
    """The outputs that a copy asks for, as `InferRequest.outputs` states them: those that the caller got, and where
    classes are compared those that they are made of."""
    wanted = {tensor.name for tensor in answered}
    if method != "tolerance":
        wanted.update(shadow.needed or shadow.specs)
    ordered = tuple(name for name in shadow.specs if name in wanted)
    return ordered if len(ordered) < len(shadow.specs) else ()


def compare(rule: ShadowComparison, primary: Answered, copy: Answered) -> Verdict:
    """Compares all rows. Where either version gives no classes, numbers are compared whatever the rule says."""
    method = method_of(rule, primary.plan, copy.plan)
    if method != "tolerance":
        mine = row_labels(primary.plan, primary.result, primary.scores).classes
        theirs = row_labels(copy.plan, copy.result, copy.scores).classes
        if mine and theirs:
            if method == "top_k" and copy.scores is not None:
                return _among_first(mine, primary, copy, rule.top_k)
            return _same_class(mine, theirs, primary, copy)
    return _near(rule, primary.result.outputs, copy.result.outputs)


def _same_class(mine: Sequence[str], theirs: Sequence[str], primary: Answered, copy: Answered) -> Verdict:
    row = next((at for at, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b), -1)
    return _AGREE if row < 0 else Verdict(False, row, _probability_gap(mine[row], primary, copy, row))


def _among_first(mine: Sequence[str], primary: Answered, copy: Answered, top_k: int) -> Verdict:
    assert copy.scores is not None, "the caller of this has looked"
    for row, (name, probabilities) in enumerate(zip(mine, copy.scores.probabilities, strict=True)):
        at = _index(copy.plan, name)
        own = probabilities[at] if at < len(probabilities) else nan
        # What is as probable as the last that counts is among them; what has no probability never is.
        if isnan(own) or sum([one > own for one in probabilities]) >= top_k:
            return Verdict(False, row, _probability_gap(name, primary, copy, row))
    return _AGREE


def _index(plan: OutputPlan, name: str) -> int:
    """The place of a class among a version's; beyond all, where it has none of that name."""
    names = plan.class_names
    if name in names:
        return names.index(name)
    # A class beyond those that are named is called by its number.
    return int(name) if name.isascii() and name.isdigit() and int(name) >= len(names) else _NOWHERE


def _probability_gap(name: str, primary: Answered, copy: Answered, row: int) -> float:
    gap = abs(_probability(primary, name, row) - _probability(copy, name, row))
    return gap if isfinite(gap) else 0.0


def _probability(one: Answered, name: str, row: int) -> float:
    if one.scores is None:
        return nan
    probabilities, at = one.scores.probabilities[row], _index(one.plan, name)
    return probabilities[at] if at < len(probabilities) else 0.0


def _near(rule: ShadowComparison, mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> Verdict:
    others = {tensor.name: tensor for tensor in theirs}
    first, difference = -1, 0.0
    for tensor in mine:
        other = others.get(tensor.name)
        row, largest = (0, 0.0) if other is None else _tensors_near(rule, tensor, other)
        difference = max(difference, largest)
        if row >= 0 and (first < 0 or row < first):
            first = row
    return _AGREE if first < 0 else Verdict(False, first, difference)


def _tensors_near(rule: ShadowComparison, mine: Tensor, theirs: Tensor) -> tuple[int, float]:
    """The first row that is different, -1 where none is, and the largest difference."""
    texts = DataType.BYTES in (mine.data_type, theirs.data_type)
    if mine.shape != theirs.shape or (texts and mine.data_type is not theirs.data_type):
        return 0, 0.0
    if mine.data_type is theirs.data_type and mine.data == theirs.data:
        return -1, 0.0
    if texts:
        pairs = zip(row_values(mine), row_values(theirs), strict=True)
        return next((row for row, (a, b) in enumerate(pairs) if a != b), -1), 0.0
    a, b = _doubles(mine), _doubles(theirs)
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.abs(a - b)
        near = gaps <= rule.absolute_tolerance + rule.relative_tolerance * np.abs(a)
    # What is infinite has no distance: only the same is near.
    unlike = ~np.isfinite(a) | ~np.isfinite(b)
    near[unlike] = ((a == b) | (np.isnan(a) & np.isnan(b)))[unlike]
    finite = gaps[np.isfinite(gaps)]
    largest = float(finite.max()) if finite.size else 0.0
    if near.all():
        return -1, largest
    per_row = len(near) // mine.shape[0] if mine.shape else len(near)
    return int(near.argmin()) // per_row, largest


def _doubles(tensor: Tensor) -> Doubles:
    return as_array(tensor.data_type, tensor.data).astype(np.float64)


def row_json(result: InferResult, row: int, redacted: frozenset[str] = frozenset()) -> str:
    """One row of an answer as a JSON object by output, of at most `EXAMPLE_LENGTH_MAX` characters: what does not fit is
    left out, and said to be. Of outputs that are `redacted` there is no value."""
    written: dict[str, object] = {}
    left_out = 0
    length = 0
    for tensor in result.outputs:
        value = REDACTED if tensor.name in redacted else _cell(tensor, row)
        length += len(json.dumps({tensor.name: value}))
        if length > EXAMPLE_LENGTH_MAX - _SPARE:
            left_out += 1
        else:
            written[tensor.name] = value
    if left_out:
        written[_LEFT_OUT] = f"{left_out} outputs"
    return json.dumps(written)


def _cell(tensor: Tensor, row: int) -> object:
    rows, elements = tensor.shape[0], prod(tensor.shape[1:])
    if tensor.data_type is DataType.BYTES:
        value = row_values(tensor)[row]
    else:
        # The row alone, and of a long one only what is shown.
        width = len(tensor.data) // rows
        shown = min(elements, _VALUES_MAX)
        data = bytes(tensor.data[row * width : row * width + shown * tensor.data_type.size_bytes])
        value = float_rows(Tensor(tensor.name, tensor.data_type, (1, shown), data))[0]
    if not isinstance(value, list):
        return _plain(value)
    cut = [_plain(one) for one in value[:_VALUES_MAX]]
    return [*cut, f"{elements - len(cut)} more"] if elements > len(cut) else cut


def _plain(value: object) -> object:
    """A value that JSON has: numbers that it lacks become their names."""
    if isinstance(value, np.floating):
        value = float(str(value)) if isfinite(value) else float(value)
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        value = repr(value)
    return value[:_TEXT_MAX] if isinstance(value, str) else value
