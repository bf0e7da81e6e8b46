"""Typed requests and answers: `infermesh.prediction.v1` messages ⇄ tensors.

A list of floats in protobuf's packed form is, byte for byte, the tensor. So the common case serialises the list and
cuts off its header instead of making a Python number of each element.
"""

import struct
from collections.abc import Callable, Sequence
from typing import cast

from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from services.batcher.codec.oip_wire import varint
from services.batcher.domain.instances import FeaturePlan, InstancePlan, Row
from services.batcher.domain.outputs import OutputPlan, Scores, row_values
from services.batcher.domain.request import InferResult, Tensor
from services.common.schema import DataType

_LISTS = {DataType.FP32: "float_list", DataType.FP64: "double_list"}
_VALUES = b"\x0a"
"""The tag of a list's values."""
_INT64_MAX = 2**63 - 1
_INT64_MIN = -(2**63)


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


class TypedWriter:
    """Writes the predictions of one version."""

    __slots__ = ("_outputs", "_set")

    def __init__(self, outputs: OutputPlan) -> None:
        self._outputs = outputs
        spec = outputs.specs.get(outputs.output)
        self._set = _setter(spec.data_type if spec is not None else DataType.BYTES)

    def response(
        self, result: InferResult, scores: Scores | None, *, latency_ms: float, request_id: str
    ) -> prediction_pb2.PredictResponse:
        """The whole answer. Raises ValueError or struct.error where the model's output is not what its schema says."""
        plan = self._outputs
        served = plan.served
        response = prediction_pb2.PredictResponse(
            model_name=served.model_name, model_version=served.version, latency_ms=latency_ms, request_id=request_id
        )
        output = next(tensor for tensor in result.outputs if tensor.name == plan.output)
        add, put = response.predictions.add, self._set
        if scores is None:
            for value in row_values(output):
                prediction = add()
                put(prediction.output, value)
                label = plan.label(value)
                if label:
                    prediction.class_name = label
            return response
        names = plan.class_names
        rows = zip(row_values(output), scores.classes, scores.confidences, scores.probabilities, strict=True)
        for value, index, confidence, probabilities in rows:
            prediction = add()
            put(prediction.output, value)
            prediction.confidence = confidence
            prediction.class_name = plan.class_name(index)
            if len(names) == len(probabilities):
                prediction.probabilities.update(zip(names, probabilities, strict=True))
            else:
                prediction.probabilities.update({plan.class_name(place): p for place, p in enumerate(probabilities)})
        return response


def _setter(data_type: DataType) -> Callable[[instance_pb2.Feature, object], None]:
    """How a row of that type is put into a Feature."""
    if data_type is DataType.BYTES:
        return _put_text
    if data_type is DataType.BOOL:
        one, many = "bool_value", "bool_list"
    elif data_type is DataType.FP64:
        one, many = "double_value", "double_list"
    elif data_type.is_float:
        one, many = "float_value", "float_list"
    else:
        return _put_integer

    def put(feature: instance_pb2.Feature, value: object) -> None:
        if isinstance(value, list):
            getattr(feature, many).values.extend(value)
            getattr(feature, many).SetInParent()
        else:
            setattr(feature, one, value)

    return put


def _put_integer(feature: instance_pb2.Feature, value: object) -> None:
    values = cast("list[int]", value if isinstance(value, list) else [value])
    if any(not _INT64_MIN <= item <= _INT64_MAX for item in values):
        # The upper half of UINT64 has no field of its own.
        if isinstance(value, list):
            feature.double_list.values.extend(map(float, values))
        else:
            feature.double_value = float(values[0])
    elif isinstance(value, list):
        feature.int_list.values.extend(values)
        feature.int_list.SetInParent()
    else:
        feature.int64_value = values[0]


def _put_text(feature: instance_pb2.Feature, value: object) -> None:
    if not isinstance(value, list):
        if isinstance(value, str):
            feature.string_value = value
        elif isinstance(value, bytes):
            feature.bytes_value = value
        else:
            raise struct.error(f"{value!r} is no text")
    elif all(isinstance(item, str) for item in value):
        feature.string_list.values.extend(value)
        feature.string_list.SetInParent()
    else:
        feature.bytes_list.values.extend(item.encode() if isinstance(item, str) else item for item in value)
