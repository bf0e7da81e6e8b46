"""What of a prediction is explained, and the explanation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.batcher.domain.outputs import OutputPlan, Scores
from services.batcher.domain.request import InferResult
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.shapley import Floats
from services.batcher.domain.tensors import as_array
from services.common.errors import MeshError, Reason
from services.common.explainable import WITHOUT_SAMPLE, why_outputs_unexplained

INSTANCES_MAX = 32
"""The most instances that one request may have explained: each costs thousands of rows."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an instance has its output. `values` and `baseline` add up to what is explained."""

    values: Mapping[str, float]
    """By player: a feature, or an element of the only feature."""
    baseline: float
    """What is explained, on average over the reference rows."""


class Target:
    """What is explained: the probability of the class that was predicted; without probabilities, the output itself.

    Raises EXPLANATION_UNAVAILABLE where that is not one number.
    """

    __slots__ = ("by_class", "tensor")

    def __init__(self, plan: OutputPlan) -> None:
        self.by_class = bool(plan.probabilities)
        """Whether there is one number for each class."""
        self.tensor = plan.probabilities or plan.output
        """The output tensor that it is read from."""
        why = why_outputs_unexplained(plan.served.schema, plan.served.mapping)
        if why:
            raise unexplained(plan.served, why)

    def asked(self, plan: OutputPlan) -> tuple[str, ...]:
        """The outputs to ask for, as `InferRequest.outputs` states them."""
        return () if len(plan.specs) == 1 else (self.tensor,)

    def table(self, plan: OutputPlan, result: InferResult, rows: int) -> Floats:
        """What may be explained of each row: one column, or one for each class. Raises EXPLANATION_UNAVAILABLE where a
        row without classes has more than one number."""
        tensor = next(one for one in result.outputs if one.name == self.tensor)
        table = as_array(tensor.data_type, tensor.data).astype(np.float64).reshape(rows, -1)
        if table.shape[1] < 1 or (table.shape[1] > 1 and not self.by_class):
            raise unexplained(plan.served, f"its output {self.tensor} has {table.shape[1]} numbers in a row, not one")
        return table

    def columns(self, scores: Scores | None, rows: int) -> list[int]:
        """Which column is explained of each row."""
        return list(scores.classes) if self.by_class and scores is not None else [0] * rows


def explanation(names: tuple[str, ...], values: Floats, baseline: float) -> Explanation:
    """The values by the names of their players."""
    return Explanation(dict(zip(names, values.tolist(), strict=True)), baseline)


def check_finite(served: ServedVersion, *numbers: Floats) -> None:
    """Raises EXPLANATION_UNAVAILABLE where the model gave what is no number: nothing could be added up."""
    if not all(np.isfinite(one).all() for one in numbers):
        raise unexplained(
            served, "it answers with NaN or infinity where features have the values of the reference sample"
        )


def check_count(instances: int) -> None:
    """Raises INVALID_FIELD where a request has too many instances to explain."""
    if instances > INSTANCES_MAX:
        raise MeshError(
            Reason.INVALID_FIELD,
            f"explain is set and the request has {instances} instances; at most {INSTANCES_MAX} are explained in one "
            "request, because each costs thousands of rows: send them in several",
        )


def unexplained(served: ServedVersion, why: str) -> MeshError:
    """EXPLANATION_UNAVAILABLE: the version cannot be explained."""
    return MeshError(
        Reason.EXPLANATION_UNAVAILABLE,
        f"explain: version {served.version} of {served.model_name!r} cannot be explained: {why}",
        metadata={"model": served.model_name, "version": served.version},
    )


def without_sample(served: ServedVersion) -> MeshError:
    """EXPLANATION_UNAVAILABLE: there is nothing to explain against."""
    return unexplained(served, WITHOUT_SAMPLE)


def not_ready(served: ServedVersion, why: str, *, retry_after_s: float) -> MeshError:
    """EXPLANATION_NOT_READY: the sample is on its way."""
    return MeshError(
        Reason.EXPLANATION_NOT_READY,
        f"explain: the reference sample of version {served.version} of {served.model_name!r} is not here yet: {why}; "
        f"try again in {retry_after_s:.1f} s, or leave `explain` out",
        metadata={"model": served.model_name, "version": served.version},
        retry_after_s=retry_after_s,
    )
