"""The answer of the REST contract, written around what never changes: names and punctuation are kept ready for each
version, and the numbers, which orjson prints all at once, are put between them.
"""

import base64
from collections.abc import Callable, Sequence
from functools import cache
from math import prod

import numpy as np
import orjson

from services.batcher.domain.explained import Explanation
from services.batcher.domain.outputs import (
    OutputPlan,
    Scores,
    float_rows,
    integer_writer,
    row_values,
)
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.tensors import as_array
from services.common.schema import DataType

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_SHORT = (DataType.FP16, DataType.BF16)
"""Printed as single precision, whose digits tell their values apart as well."""
_PROBABILITY = 7
"""Where the first one goes in the parts of a prediction; the second is two places further."""


class JsonWriter:
    """Writes the answers of one version."""

    __slots__ = ("_classes", "_named", "_outputs", "_parts", "_tail", "_width", "_write")

    def __init__(self, outputs: OutputPlan) -> None:
        self._outputs = outputs
        served = outputs.served
        named = {"model_name": served.model_name, "model_version": served.version, "latency_ms": 0}
        self._tail = b"]," + orjson.dumps(named)[1:-2]
        spec = outputs.specs.get(outputs.output)
        self._write = _writer(spec.data_type if spec is not None else DataType.BYTES)
        self._prepare(len(outputs.class_names))

    def response(
        self,
        result: InferResult,
        scores: Scores | None,
        *,
        latency_ms: float,
        request_id: str,
        explanations: Sequence[Explanation] = (),
    ) -> bytes:
        """The answer, with the explanation of each prediction where there are any.

        Single-precision numbers are printed with the digits that they have. Raises ValueError or struct.error where the
        model's output is not what its schema says.
        """
        output = _named(result, self._outputs.output)
        predictions = self._plain(output) if scores is None else self._scored(output, result, scores)
        if explanations:
            predictions = [_explained(*both) for both in zip(predictions, explanations, strict=True)]
        return b"".join(
            (
                b'{"predictions":[',
                b",".join(predictions),
                self._tail,
                orjson.dumps(round(latency_ms, 3)),
                b',"request_id":',
                orjson.dumps(request_id),
                b"}",
            )
        )

    def _plain(self, output: Tensor) -> list[bytes]:
        predictions = []
        for text, value in zip(self._write(output), row_values(output), strict=True):
            label = self._outputs.label(value)
            end = b',"class":' + orjson.dumps(label) + b"}" if label else b"}"
            predictions.append(b'{"output":' + text + end)
        return predictions

    def _scored(self, output: Tensor, result: InferResult, scores: Scores) -> list[bytes]:
        width = len(scores.probabilities[0])
        if width != self._width:
            self._prepare(width)
        parts, classes, named = self._parts, self._classes, self._named
        printed = _printed(_named(result, self._outputs.probabilities))
        predictions = []
        for row, (text, index) in enumerate(zip(self._write(output), scores.classes, strict=True)):
            numbers = printed[row * width : (row + 1) * width]
            parts[1], parts[3], parts[5] = text, numbers[index], classes[index]
            parts[_PROBABILITY::2] = [numbers[at] for at in named] if named else numbers
            predictions.append(b"".join(parts))
        return predictions

    def _prepare(self, width: int) -> None:
        """Gets ready for rows with so many probabilities."""
        names = [self._outputs.class_name(index) for index in range(width)]
        self._width = width
        self._classes = [orjson.dumps(name) for name in names]
        places = {name: index for index, name in enumerate(names)}
        self._named = list(places.values()) if len(places) < width else []
        """Whose probabilities are printed: of classes of one name the last one's. Empty: everybody's."""
        self._parts: list[bytes] = [b'{"output":', b"", b',"confidence":', b"", b',"class":', b""]
        before = b',"probabilities":{'
        for name in places:
            self._parts += (before + orjson.dumps(name) + b":", b"")
            before = b","
        self._parts.append(b"}}")


def _named(result: InferResult, name: str) -> Tensor:
    for tensor in result.outputs:
        if tensor.name == name:
            return tensor
    raise ValueError(f"output {name!r} is missing")


def _explained(prediction: bytes, explanation: Explanation) -> bytes:
    said = orjson.dumps(
        {"explanation": explanation.values, "explanation_baseline": explanation.baseline}, option=_NUMPY
    )
    return prediction[:-1] + b"," + said[1:]


def _printed(tensor: Tensor) -> list[bytes]:
    """The numbers of a tensor that is not empty."""
    numbers = as_array(tensor.data_type, tensor.data)
    if tensor.data_type in _SHORT:
        numbers = numbers.astype(np.float32, copy=False)
    return orjson.dumps(numbers, option=_NUMPY)[1:-1].split(b",")


@cache
def _writer(data_type: DataType) -> Callable[[Tensor], Sequence[bytes]]:
    """How the rows of an output of that type are printed."""

    def one_by_one(tensor: Tensor) -> Sequence[bytes]:
        return [orjson.dumps(value, default=_other, option=_NUMPY) for value in float_rows(tensor)]

    def floats(tensor: Tensor) -> Sequence[bytes]:
        return _printed(tensor) if prod(tensor.shape[1:]) == 1 else one_by_one(tensor)

    if data_type.is_float:
        return floats
    if data_type.is_integer:
        return integer_writer(data_type, lambda value: b"%d" % value, one_by_one)
    return one_by_one


def _other(value: object) -> object:
    if isinstance(value, bytes):  # text was decoded before: these are bytes that no JSON text can hold
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")
