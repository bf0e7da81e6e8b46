"""A `PredictResponse`, written as bytes without protobuf objects: what never changes is kept ready for each version.

Of an answer with ten classes the numbers change and nothing else: where they go, and the names before them, are one
`struct` format. A property test holds these bytes to the message that protobuf builds.
"""

import struct
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import cast

from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from services.batcher.codec.oip_wire import field, varint
from services.batcher.domain.explained import Explanation
from services.batcher.domain.outputs import OutputPlan, Scores, integer_writer, row_bytes, row_values
from services.batcher.domain.request import InferResult, Tensor
from services.common.schema import DataType

_INT64_MAX = 2**63 - 1
_INT64_MIN = -(2**63)

_PREDICTIONS = b"\x0a"
_MODEL_NAME = b"\x12"
_MODEL_VERSION = b"\x1a"
_LATENCY_MS = b"\x21"
_REQUEST_ID = b"\x2a"

_OUTPUT = b"\x0a"
_CONFIDENCE = b"\x11"
_PROBABILITIES = b"\x1a"
_CLASS_NAME = b"\x22"

_KEY = b"\x0a"
_VALUE = b"\x11"
_DOUBLE_BYTES = 8

_INT64_VALUE = b"\x10"
_FLOATS = {DataType.FP32: (b"\x0d", b"\x22"), DataType.FP64: (b"\x49", b"\x52")}
"""The tags of one value and of a list, where the tensor's bytes are the message's."""
_LIST_VALUES = b"\x0a"

_pack_latency = struct.Struct("<cd").pack


class TypedWriter:
    """Writes the predictions of one version."""

    __slots__ = ("_classes", "_names", "_outputs", "_pack", "_tail", "_template", "_width", "_write")

    def __init__(self, outputs: OutputPlan) -> None:
        self._outputs = outputs
        served = outputs.served
        self._tail = field(_MODEL_NAME, served.model_name.encode()) + field(_MODEL_VERSION, served.version.encode())
        spec = outputs.specs.get(outputs.output)
        self._write = _writer(spec.data_type if spec is not None else DataType.BYTES)
        self._prepare(len(outputs.class_names))

    def response(self, result: InferResult, scores: Scores | None, *, latency_ms: float, request_id: str) -> bytes:
        """The whole answer. Raises ValueError or struct.error where the model's output is not what its schema says."""
        wanted = self._outputs.output
        for tensor in result.outputs:
            if tensor.name == wanted:
                break
        else:
            raise ValueError(f"output {wanted!r} is missing")
        outputs = self._write(tensor)
        parts: list[bytes] = []
        if scores is None:
            label = self._outputs.label
            for output, value in zip(outputs, row_values(tensor), strict=True):
                name = label(value)
                written = output + field(_CLASS_NAME, name.encode()) if name else output
                parts += (_PREDICTIONS, varint(len(written)), written)
        else:
            probabilities = scores.probabilities
            if len(probabilities[0]) != self._width:
                self._prepare(len(probabilities[0]))
            pack, template, classes = self._pack, self._template, self._classes
            for output, index, confidence, row in zip(
                outputs, scores.classes, scores.confidences, probabilities, strict=True
            ):
                template[1] = confidence
                template[3::2] = row
                written = output + pack(*template) + classes[index]
                parts += (_PREDICTIONS, varint(len(written)), written)
        stated = request_id.encode()
        parts += (self._tail, _pack_latency(_LATENCY_MS, latency_ms), _REQUEST_ID, varint(len(stated)), stated)
        return b"".join(parts)

    def _prepare(self, width: int) -> None:
        """Gets ready for rows with so many probabilities."""
        names = [self._outputs.class_name(index).encode() for index in range(width)]
        heads = [
            _PROBABILITIES + varint(len(key) + len(_VALUE) + _DOUBLE_BYTES) + key + _VALUE
            for key in [field(_KEY, name) for name in names]
        ]
        self._width = width
        self._classes = [field(_CLASS_NAME, name) for name in names]
        self._template: list[bytes | float] = [_CONFIDENCE, 0.0]
        for head in heads:
            self._template += (head, 0.0)
        self._pack = struct.Struct("<cd" + "".join([f"{len(head)}sd" for head in heads])).pack


def explained(response: bytes, explanations: Sequence[Explanation]) -> bytes:
    """The same answer with the explanation of each prediction."""
    message = prediction_pb2.PredictResponse.FromString(response)
    for prediction, one in zip(message.predictions, explanations, strict=True):
        prediction.explanation.update(one.values)
        prediction.explanation_baseline = one.baseline
    written: bytes = message.SerializeToString()
    return written


@cache
def _writer(data_type: DataType) -> Callable[[Tensor], Sequence[bytes]]:
    """How the rows of an output of that type become `output` fields."""
    put = _setter(data_type)

    def one_by_one(tensor: Tensor) -> Sequence[bytes]:
        written = []
        for value in row_values(tensor):
            feature = instance_pb2.Feature()
            put(feature, value)
            written.append(field(_OUTPUT, feature.SerializeToString()))
        return written

    if data_type in _FLOATS:
        return _floats
    if data_type.is_integer:
        return integer_writer(data_type, lambda value: field(_OUTPUT, _INT64_VALUE + varint(value)), one_by_one)
    return one_by_one


def _floats(tensor: Tensor) -> Sequence[bytes]:
    one, many = _FLOATS[tensor.data_type]
    rows = row_bytes(tensor)
    if prod(tensor.shape[1:]) == 1:
        head = _OUTPUT + varint(len(one) + len(rows[0])) + one
        return [head + row for row in rows]
    return [field(_OUTPUT, field(many, field(_LIST_VALUES, row))) for row in rows]


def _setter(data_type: DataType) -> Callable[[instance_pb2.Feature, object], None]:
    """How a row of that type is put into a Feature."""
    if data_type is DataType.BYTES:
        return _put_text
    if data_type.is_integer:
        return _put_integer
    one, many = ("bool_value", "bool_list") if data_type is DataType.BOOL else ("float_value", "float_list")

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
