"""Joining features where a caller sends tensors: the entity's key is one more input, as texts or whole numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.batcher.domain.features import JoinPlan
from services.batcher.domain.instances import ROWS_MAX, FeaturePlan, Row
from services.batcher.domain.request import Tensor
from services.batcher.domain.schema_check import Violations, schema_violation
from services.batcher.domain.tensors import as_array, split_bytes
from services.common.schema import DataType

PREFIX = "rows"
"""How rows are called in what callers are told."""
_SENT = object()
"""Stands for the value of a feature that came as a tensor."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a caller sent: as instances that say what is there and whose features are wanted, and the model's inputs."""

    instances: Sequence[Row]
    tensors: Sequence[Tensor]


def sent(plan: JoinPlan, tensors: Sequence[Tensor]) -> Sent:
    """Reads the entities' keys. What else is wrong with the tensors is not looked at. Raises SCHEMA_VIOLATION."""
    rows = next((tensor.shape[0] for tensor in tensors if tensor.shape), 0)
    rows = rows if 0 < rows <= ROWS_MAX else 0
    entities = {view.entity for view in plan.views}
    features = {name for view in plan.views for name in view.features}
    columns: dict[str, Sequence[object]] = {}
    violations = Violations()
    for tensor in tensors:
        if tensor.name in features:
            columns[tensor.name] = [_SENT] * rows
        elif tensor.name in entities:
            columns[tensor.name] = _ids(tensor, rows, violations)
    if violations.found:
        raise schema_violation(plan.served, violations.found)
    only_entities = set(plan.entities)
    instances = [{name: column[place] for name, column in columns.items()} for place in range(rows)]
    return Sent(instances, [tensor for tensor in tensors if tensor.name not in only_entities])


def completed(
    plan: JoinPlan, features: Sequence[FeaturePlan], tensors: Sequence[Tensor], joined: Sequence[Row]
) -> list[Tensor]:
    """The tensors with those of the joined features, in the schema's order; what is no input comes last, for the check
    to name. Raises SCHEMA_VIOLATION where rows of one feature differ in shape."""
    given = {tensor.name for tensor in tensors}
    added: dict[str, Tensor] = {}
    violations = Violations()
    owned = {name for view in plan.views for name in view.features}
    for feature in features:
        if feature.name not in owned or feature.name in given or not joined:
            continue
        quick = feature.quick([row.get(feature.name) for row in joined])
        encoded = (feature.shape, quick) if quick is not None else feature.careful(joined, violations, PREFIX)
        if encoded is not None:
            shape, data = encoded
            added[feature.name] = Tensor(feature.name, feature.spec.data_type, (len(joined), *shape), data)
    if violations.found:
        raise schema_violation(plan.served, violations.found)
    if not added:
        return list(tensors)
    order = {feature.name: place for place, feature in enumerate(features)}
    return sorted([*tensors, *added.values()], key=lambda tensor: order.get(tensor.name, len(order)))


def _ids(tensor: Tensor, rows: int, violations: Violations) -> Sequence[object]:
    """One id for each row."""
    ids: Sequence[object] = ()
    try:
        if tensor.data_type is DataType.BYTES:
            ids = split_bytes(tensor.data)
        elif tensor.data_type.is_integer:
            ids = as_array(tensor.data_type, tensor.data).tolist()
        else:
            violations.add(tensor.name, f"has datatype {tensor.data_type.value}; expected BYTES or whole numbers")
            return ids
    except ValueError as error:
        violations.add(tensor.name, f"cannot be read: {error}")
        return ids
    if len(ids) != rows:
        violations.add(tensor.name, f"has {len(ids)} elements for {rows} rows; expected one for each row")
    return ids
