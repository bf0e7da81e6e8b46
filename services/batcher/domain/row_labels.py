"""What was predicted for each row: its class where the version has classes, else its number.

The same for every protocol: by the probabilities where they were asked for, else by the output that is the prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from services.batcher.domain.outputs import OutputPlan, Scores, row_values
from services.batcher.domain.request import InferResult, Tensor
from services.common.schema import DataType

ROWS_LOGGED_MAX = 1000
"""The most rows of a request whose predictions are logged: a request of more is a batch job's work."""
TEXT_LENGTH_MAX = 200
"""Characters of a class that is logged, or that a model names itself, as a text."""


@dataclass(slots=True)
class RowLabels:
    """One entry a row in one of the two, where the version says anything."""

    classes: Sequence[str] = ()
    values: Sequence[float] = ()


NOTHING = RowLabels()


def has_classes(plan: OutputPlan) -> bool:
    """Whether the version's predictions are classes."""
    output = plan.specs.get(plan.output)
    return bool(plan.probabilities or plan.class_names) or (output is not None and output.data_type is DataType.BYTES)


def row_labels(
    plan: OutputPlan, result: InferResult, scores: Scores | None, *, rows_max: int | None = None
) -> RowLabels:
    """What was predicted for the first `rows_max` rows, or for all. Nothing, where neither probabilities nor the output
    were asked for, or a row has several numbers."""
    if scores is not None:
        names, count = plan.class_names, len(plan.class_names)
        chosen = scores.classes[:rows_max]
        return RowLabels(classes=[names[at] if at < count else str(at) for at in chosen])
    for tensor in result.outputs:
        if tensor.name == plan.output and prod(tensor.shape[1:]) == 1:
            return _of_output(plan, tensor, rows_max)
    return NOTHING


def _of_output(plan: OutputPlan, tensor: Tensor, rows_max: int | None) -> RowLabels:
    values = row_values(tensor)[:rows_max]
    if tensor.data_type is DataType.BYTES:
        texts = [one if isinstance(one, str) else repr(one) for one in values]
        return RowLabels(classes=[text[:TEXT_LENGTH_MAX] for text in texts])
    if plan.class_names and tensor.data_type.is_integer:
        return RowLabels(classes=[plan.label(one) or str(one) for one in values])
    return RowLabels(values=[float(one) for one in values if isinstance(one, int | float)])
