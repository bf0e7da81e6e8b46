"""Typed requests: the instances of `infermesh.prediction.v1` become tensors.

A list of floats in protobuf's packed form is, byte for byte, the tensor. So the common case serialises the list and
cuts off its header instead of making a Python number of each element.
"""

from collections.abc import Sequence

from infermesh.prediction.v1 import instance_pb2

from services.batcher.codec.oip_wire import varint
from services.batcher.domain.instances import FeaturePlan, InstancePlan, Row
from services.batcher.domain.request import Tensor
from services.common.schema import DataType

_LISTS = {DataType.FP32: "float_list", DataType.FP64: "double_list"}
_VALUES = b"\x0a"
"""The tag of a list's values."""


class TypedReader:
    """Reads the instances of one version."""

    __slots__ = ("_plan", "_quick")

    def __init__(self, plan: InstancePlan) -> None:
        self._plan = plan
        quick = [_packed_list(feature) for feature in plan.features]
        self._quick = [item for item in quick if item is not None] if all(quick) else []

    @property
    def at_a_glance(self) -> bool:
        """Whether instances fit by the bytes of their features, whatever these are."""
        return bool(self._quick)

    def tensors(self, instances: Sequence[instance_pb2.Instance]) -> tuple[Tensor, ...]:
        """The input tensors, in the schema's order. Raises SCHEMA_VIOLATION."""
        if self._quick:
            tensors = self._packed(instances)
            if tensors is not None:
                return tensors
        return self._plan.tensors(self.rows(instances))

    def rows(self, instances: Sequence[instance_pb2.Instance]) -> list[Row]:
        """The instances as plain values, unchecked: a feature that is unset counts as left out."""
        return [_row(instance) for instance in instances]

    def _packed(self, instances: Sequence[instance_pb2.Instance]) -> tuple[Tensor, ...] | None:
        quick = self._quick
        wanted = len(quick)
        for instance in instances:
            if len(instance.features) != wanted:
                return None
        tensors: list[Tensor] = []
        rows = len(instances)
        for name, field, data_type, shape, head, size in quick:
            # Asking a map for a key it has not adds an empty feature, which counts as left out: nothing is changed.
            lists = [getattr(instance.features[name], field).SerializeToString() for instance in instances]
            for packed in lists:
                # Both: what a later contract adds to the list could make up for bytes that are missing.
                if len(packed) != size or not packed.startswith(head):
                    return None
            header = len(head)
            data = lists[0][header:] if rows == 1 else b"".join([packed[header:] for packed in lists])
            tensors.append(Tensor(name, data_type, (rows, *shape), data))
        return tuple(tensors)


def _packed_list(feature: FeaturePlan) -> tuple[str, str, DataType, tuple[int, ...], bytes, int] | None:
    """Name, field, type, shape, the packed list's header, bytes of it all. None: values must be looked at."""
    spec = feature.spec
    field = _LISTS.get(spec.data_type)
    if field is None or not spec.shape or feature.count <= 0 or not feature.plain:
        return None
    size = feature.count * spec.data_type.size_bytes
    head = _VALUES + varint(size)
    return spec.name, field, spec.data_type, spec.shape, head, len(head) + size


def _row(instance: instance_pb2.Instance) -> dict[str, object]:
    row: dict[str, object] = {}
    for name, feature in instance.features.items():
        kind = feature.WhichOneof("kind")
        if kind is not None:  # unset: the feature counts as left out
            value = getattr(feature, kind)
            row[name] = list(value.values) if kind.endswith("_list") else value
    return row
