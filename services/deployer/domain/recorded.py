"""Warming up with recorded rows: a version's reference sample as the batches that it will meet.

A model that has answered real rows in the sizes that batchers send has compiled, allocated and cached what it needs,
and one whose code fails on real values shows it before it serves.
"""

import json
from collections.abc import Mapping, Sequence
from math import prod

from services.common.schema import ModelSchema, TensorSpec
from services.deployer.domain.trial import JsonScalar, Tensor, flat

ROWS_MAX = 64
"""The most rows in a batch that warms up."""
VALUES_MAX = 1_000_000
"""The most values in it, which are sent as text."""

RecordedRow = Mapping[str, tuple[tuple[int, ...], Sequence[JsonScalar]]]
"""The sizes and the values of each input of one row."""


def recorded_rows(schema: ModelSchema, sample: bytes) -> Sequence[RecordedRow]:
    """The rows of a sample, as the registry gives it out, that can share a batch with the first: those with the same
    inputs in the same sizes. Empty where there are none."""
    instances = json.loads(sample)["instances"] if sample else []
    rows = [row for row in (_row(schema, one) for one in instances) if row]
    return [row for row in rows if _form(row) == _form(rows[0])]


def warm_sizes(rows: Sequence[RecordedRow], max_batch_size: int) -> Sequence[int]:
    """One row, and as many as go into a batch, within bounds. None where there are no rows."""
    if not rows:
        return ()
    in_a_row = sum(max(1, prod(shape)) for shape, _ in rows[0].values())
    most = min(max_batch_size, ROWS_MAX, max(1, VALUES_MAX // in_a_row))
    return (1,) if most == 1 else (1, most)


def warm_inputs(schema: ModelSchema, rows: Sequence[RecordedRow], count: int) -> tuple[Tensor, ...]:
    """A batch of `count` of these rows, from the first again where there are fewer."""
    chosen = [rows[number % len(rows)] for number in range(count)]
    return tuple(
        Tensor(
            spec.name,
            spec.data_type,
            (count, *chosen[0][spec.name][0]),
            [value for row in chosen for value in row[spec.name][1]],
        )
        for spec in schema.inputs
        if spec.name in chosen[0]
    )


def _row(schema: ModelSchema, instance: Mapping[str, object]) -> RecordedRow | None:
    row: dict[str, tuple[tuple[int, ...], Sequence[JsonScalar]]] = {}
    for spec in schema.inputs:
        value = instance.get(spec.name, json.loads(spec.default_json) if spec.default_json else None)
        if value is None:
            if not spec.optional:
                return None
            continue
        shape = _shape(spec, value)
        values = flat(value)
        if len(values) != prod(shape):
            return None
        row[spec.name] = (shape, values)
    return row


def _shape(spec: TensorSpec, value: object) -> tuple[int, ...]:
    """The sizes that the value has where the schema leaves them open."""
    sizes = []
    for size in spec.shape:
        sizes.append(size if size >= 0 else len(value) if isinstance(value, list) else 1)
        value = value[0] if isinstance(value, list) and value else value
    return tuple(sizes)


def _form(row: RecordedRow) -> Mapping[str, tuple[int, ...]]:
    return {name: shape for name, (shape, _) in row.items()}
