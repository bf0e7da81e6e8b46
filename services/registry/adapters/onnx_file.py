"""What an ONNX file states, without loading it.

Weights make up nearly all of a model and say nothing about its tensors. So the protobuf fields of the file are walked
by their length prefixes: only names, types and shapes are read, everything else is stepped over. Memory stays small for
models of any size, and no code nor further file of the model is touched.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError

from services.common.errors import MeshError, Reason, shown
from services.common.schema import DataType
from services.registry.adapters.window import Window
from services.registry.domain.schemas import StatedSchema, StatedTensor
from services.registry.domain.version import Artifact
from services.registry.ports import ArtifactStore

_BYTES_MAX = 2**31 - 1
"""Protobuf takes no larger message, so no runtime can load a larger ONNX file."""
_TENSORS_MAX = 4096
_FIELDS_MAX = 5_000_000
_NAME_LENGTH_MAX = 256
_TENSOR_BYTES_MAX = 1024 * 1024
_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 5, 11, 12, 15
_TENSOR_NAME, _TENSOR_LOCATION = 8, 14
_SPARSE_VALUES = 1
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

Span = tuple[int, int]
"""Where a field's bytes begin and end in the file."""

_DATA_TYPES: Mapping[int, DataType] = {
    onnx.TensorProto.FLOAT: DataType.FP32,
    onnx.TensorProto.UINT8: DataType.UINT8,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.UINT16: DataType.UINT16,
    onnx.TensorProto.INT16: DataType.INT16,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.STRING: DataType.BYTES,
    onnx.TensorProto.BOOL: DataType.BOOL,
    onnx.TensorProto.FLOAT16: DataType.FP16,
    onnx.TensorProto.DOUBLE: DataType.FP64,
    onnx.TensorProto.UINT32: DataType.UINT32,
    onnx.TensorProto.UINT64: DataType.UINT64,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
}


class OnnxReader:
    """An `ArtifactReader`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def stated(self, artifact: Artifact) -> StatedSchema:
        """The tensors that the file states, read off the event loop."""
        if artifact.kind != "file":
            raise _invalid(artifact, f"it is packed as {artifact.kind}", "register the .onnx file itself")
        with await self._store.open(artifact.digest) as stream:
            return await asyncio.to_thread(read_onnx, stream, artifact)


def read_onnx(stream: BinaryIO, artifact: Artifact) -> StatedSchema:
    """The inputs and outputs of the model in a file, in its order. Raises ARTIFACT_INVALID."""
    if not 0 < artifact.size_bytes <= _BYTES_MAX:
        raise _invalid(artifact, f"it has {artifact.size_bytes} bytes", f"an ONNX file has 1 to {_BYTES_MAX}")
    try:
        return _Walk(Window(stream), artifact).schema()
    except (_BrokenError, DecodeError, UnicodeDecodeError) as error:
        problem = str(error) if isinstance(error, _BrokenError) else "a name or type in it is broken"
        raise _invalid(artifact, problem, "export the model to ONNX again") from error


class _BrokenError(Exception):
    """The bytes are not what protobuf or ONNX allow."""


class _Walk:
    """One pass over a file."""

    def __init__(self, data: Window, artifact: Artifact) -> None:
        self._data = data
        self._artifact = artifact
        self._left = _FIELDS_MAX

    def schema(self) -> StatedSchema:
        graphs, opsets = [], 0
        for number, kind, span in self._fields((0, len(self._data))):
            if number == _MODEL_GRAPH and kind == _LENGTH:
                graphs.append(span)
            opsets += number == _MODEL_OPSET and kind == _LENGTH
        if len(graphs) != 1 or not opsets:
            raise _BrokenError("it is no ONNX model: it has no graph, or names no operator set")
        inputs: list[Span] = []
        outputs: list[Span] = []
        weights: set[str] = set()
        for number, kind, span in self._fields(graphs[0]):
            if kind != _LENGTH:
                continue
            if number == _GRAPH_INITIALIZER:
                weights.add(self._weight(span))
            elif number == _GRAPH_SPARSE:
                weights.update(self._weight(part) for field, _, part in self._fields(span) if field == _SPARSE_VALUES)
            elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
                (inputs if number == _GRAPH_INPUT else outputs).append(span)
        if len(inputs) + len(outputs) > _TENSORS_MAX + len(weights):
            raise _BrokenError(f"it has more than {_TENSORS_MAX} inputs and outputs")
        # Old exporters list weights among the inputs.
        given = [tensor for span in inputs if (tensor := self._tensor(span, "input", weights)) is not None]
        made = [tensor for span in outputs if (tensor := self._tensor(span, "output", set())) is not None]
        names = [[tensor.name for tensor in side] for side in (given, made)]
        if not given or not made or any(len(set(side)) != len(side) for side in names):
            raise _BrokenError("it is no ONNX model to serve: it needs inputs and outputs, each with a name of its own")
        return StatedSchema(tuple(given), tuple(made))

    def _weight(self, span: Span) -> str:
        """The name of a stored tensor, which must be in the file."""
        name = ""
        for number, kind, part in self._fields(span):
            if number == _TENSOR_NAME and kind == _LENGTH:
                name = self._bytes(part).decode()
            elif number == _TENSOR_LOCATION and kind == _VARINT and part[0] == onnx.TensorProto.EXTERNAL:
                raise _invalid(
                    self._artifact,
                    f"the weights {name!r} are in another file",
                    "save the model with its weights inside (onnx.save without save_as_external_data)",
                )
        return name

    def _tensor(self, span: Span, side: str, weights: set[str]) -> StatedTensor | None:
        """A graph input or output; None for weights."""
        value = onnx.ValueInfoProto.FromString(self._bytes(span))
        name = _name(value.name)
        if name in weights:
            return None
        what = f"{side} {name!r}"
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            stated = {"sequence_type": "a sequence", "map_type": "a map"}.get(kind, "no dense tensor")
            advice = "export it with tensors only, for scikit-learn with the option zipmap=False"
            raise _invalid(self._artifact, f"its {what} is {stated}", advice)
        tensor = value.type.tensor_type
        data_type = _DATA_TYPES.get(tensor.elem_type)
        if data_type is None:
            problem = f"its {what} has elements of ONNX type {tensor.elem_type}"
            raise _invalid(self._artifact, problem, "export it with " + ", ".join(DataType))
        if not tensor.HasField("shape"):
            return StatedTensor(name, data_type, None)
        sizes = [dim.dim_value if dim.dim_value > 0 else -1 for dim in tensor.shape.dim]
        if not sizes or sizes[0] not in (-1, 1):
            problem = f"its {what} has the fixed shape {sizes}, without a first dimension for the batch"
            raise _invalid(self._artifact, problem, "export it with a dynamic first dimension")
        return StatedTensor(name, data_type, tuple(sizes[1:]))

    def _bytes(self, span: Span) -> bytes:
        if span[1] - span[0] > _TENSOR_BYTES_MAX:
            raise _BrokenError(f"a name or type in it is longer than {_TENSOR_BYTES_MAX} bytes")
        return self._data[span[0] : span[1]]

    def _fields(self, span: Span) -> Iterator[tuple[int, int, Span]]:
        """Number, wire type and place of each field; of a varint, its value in the place's first half."""
        at, end = span
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise _BrokenError(f"it has more than {_FIELDS_MAX} parts")
            key, at = self._varint(at, end)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, at = self._varint(at, end)
                yield number, kind, (value, value)
                continue
            size = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
            if kind == _LENGTH:
                size, at = self._varint(at, end)
            elif not size:
                raise _BrokenError("it is no ONNX model: it holds no protobuf")
            if not number or at + size > end:
                raise _BrokenError("it is no ONNX model, or the end of it is missing")
            yield number, kind, (at, at + size)
            at += size

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at
        raise _BrokenError("it is no ONNX model, or the end of it is missing")


def _name(name: object) -> str:
    """`name` itself; protobuf gives bytes where a name is no UTF-8."""
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_LENGTH_MAX or not name.isprintable():
        allowed = f"1 to {_NAME_LENGTH_MAX} printable characters"
        raise _BrokenError(f"an input or output of it has the name {shown(name)}; allowed: {allowed}")
    return name


def _invalid(artifact: Artifact, problem: str, advice: str) -> MeshError:
    name = artifact.filename or artifact.digest
    return MeshError(
        Reason.ARTIFACT_INVALID,
        f"the artifact {name} cannot be registered as ONNX: {problem}; {advice}",
        metadata={"artifact_digest": artifact.digest},
    )
