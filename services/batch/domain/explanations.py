"""What predictions are made of: the batcher's explanations, as columns of an output."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from services.batch.domain.job import Version
from services.common.errors import MeshError, Reason
from services.common.explainable import WITHOUT_SAMPLE, why_outputs_unexplained

ROWS_MAX = 32
"""Rows in one request that asks for explanations: the most that the batcher takes."""
COLUMNS = ("explanation", "explanation_baseline")
_VALUES = pa.map_(pa.string(), pa.float64())
_ELEMENT = re.compile(r"(.*?)((?:\[\d+\])*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a row has its output. `values` and `baseline` add up to what is explained."""

    values: Mapping[str, float]
    """By feature, or by element of the only feature."""
    baseline: float
    """What is explained, on average over the version's reference sample."""


def check_explainable(version: Version) -> None:
    """Raises EXPLANATION_UNAVAILABLE where no prediction of the version can be explained."""
    why = WITHOUT_SAMPLE if not version.reference_digest else ""
    why = why_outputs_unexplained(version.schema, version.mapping) or why
    if why:
        raise MeshError(
            Reason.EXPLANATION_UNAVAILABLE,
            f"output.explain: version {version.version} of {version.model!r} cannot be explained: {why}",
            metadata={"model": version.model, "version": version.version, "field": "output.explain"},
        )


def explanation_columns(explanations: Sequence[Explanation], version: Version) -> list[pa.Array]:
    """Their values, in the order of the schema, and their baselines."""
    order = {spec.name: place for place, spec in enumerate(version.schema.inputs)}
    values = [sorted(one.values.items(), key=lambda item: _place(item[0], order)) for one in explanations]
    return [pa.array(values, type=_VALUES), pa.array([one.baseline for one in explanations], type=pa.float64())]


def _place(name: str, order: Mapping[str, int]) -> tuple[int, tuple[int, ...], str]:
    """A feature's place in the schema, then that of its element: "X[10]" comes after "X[9]"."""
    if name in order:
        return order[name], (), name
    found = _ELEMENT.fullmatch(name)
    feature, places = (found[1], found[2]) if found is not None else (name, "")
    return order.get(feature, len(order)), tuple(map(int, re.findall(r"\d+", places))), name
