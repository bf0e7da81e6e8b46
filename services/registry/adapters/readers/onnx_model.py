"""What an ONNX file states, without loading it.

Weights make up nearly all of a model and say nothing about its tensors. So the protobuf fields of the file are walked
by their length prefixes: only names, types and shapes are read, everything else is stepped over. Memory stays small for
models of any size, and no code nor further file of the model is touched.
"""

from collections.abc import Mapping
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError

from services.common.errors import shown
from services.common.schema import DataType
from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.wire import LENGTH, VARINT, Span, Wire
from services.registry.adapters.window import Window
from services.registry.domain.frameworks import Understood
from services.registry.domain.schemas import StatedSchema, StatedTensor

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
_MODEL_IR_VERSION = 1
_TOP_FIELDS_MAX = 10_000
_FIRST_BYTES = (b"\x08", b"\x12", b"\x1a", b"\x3a", b"\x42")
_AGAIN = "export the model to ONNX again"

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


class OnnxModelReader:
    """A `FormatReader`. Protobuf has no mark of its own, so the outermost fields are how a model is recognised."""

    form = "an ONNX file"

    def why_not(self, contents: Contents) -> str:
        """A message whose outermost fields are those of a model: its version and a graph."""
        entry = contents.sole
        if contents.packed or entry is None or not contents.head.startswith(_FIRST_BYTES):
            return "no ONNX file (it does not begin as one)"
        wire = Wire(entry.window(), fields_max=_TOP_FIELDS_MAX)
        try:
            seen = {(number, kind) for number, kind, _ in wire.fields(wire.whole)}
        except RefusedError as error:
            # One that lost its end is to be told so, by its reader.
            lost = isinstance(error, BrokenError) and contents.head.startswith(_FIRST_BYTES[:1])
            return "" if lost else "no ONNX file (it holds no protobuf)"
        known = {(_MODEL_GRAPH, LENGTH), (_MODEL_IR_VERSION, VARINT)}
        return "" if known & seen else "no ONNX file (it holds no graph)"

    def read(self, contents: Contents) -> Understood:
        """Its inputs and outputs. Raises RefusedError."""
        entry = contents.sole
        if entry is None:
            raise RefusedError("it is not one file")
        return Understood("onnx", self.form, read_onnx(entry.open(), entry.size_bytes))


def read_onnx(stream: BinaryIO, size_bytes: int) -> StatedSchema:
    """The inputs and outputs of the model in a file, in its order. Raises RefusedError."""
    if not 0 < size_bytes <= _BYTES_MAX:
        raise RefusedError(f"it has {size_bytes} bytes", f"an ONNX file has 1 to {_BYTES_MAX}")
    try:
        return _Walk(Window(stream)).schema()
    except BrokenError as error:
        raise BrokenError(error.problem, _AGAIN) from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise BrokenError("a name or type in it is broken", _AGAIN) from error


class _Walk:
    """One pass over a file."""

    def __init__(self, data: Window) -> None:
        self._data = data
        self._wire = Wire(data, fields_max=_FIELDS_MAX)

    def schema(self) -> StatedSchema:
        graphs, opsets = [], 0
        for number, kind, span in self._wire.fields(self._wire.whole):
            if number == _MODEL_GRAPH and kind == LENGTH:
                graphs.append(span)
            opsets += number == _MODEL_OPSET and kind == LENGTH
        if len(graphs) != 1 or not opsets:
            raise BrokenError("it is no ONNX model: it has no graph, or names no operator set")
        inputs: list[Span] = []
        outputs: list[Span] = []
        weights: set[str] = set()
        for number, kind, span in self._wire.fields(graphs[0]):
            if kind != LENGTH:
                continue
            if number == _GRAPH_INITIALIZER:
                weights.add(self._weight(span))
            elif number == _GRAPH_SPARSE:
                weights.update(
                    self._weight(part) for field, _, part in self._wire.fields(span) if field == _SPARSE_VALUES
                )
            elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
                (inputs if number == _GRAPH_INPUT else outputs).append(span)
        if len(inputs) + len(outputs) > _TENSORS_MAX + len(weights):
            raise BrokenError(f"it has more than {_TENSORS_MAX} inputs and outputs")
        # Old exporters list weights among the inputs.
        given = [tensor for span in inputs if (tensor := self._tensor(span, "input", weights)) is not None]
        made = [tensor for span in outputs if (tensor := self._tensor(span, "output", set())) is not None]
        names = [[tensor.name for tensor in side] for side in (given, made)]
        if not given or not made or any(len(set(side)) != len(side) for side in names):
            raise BrokenError("it is no ONNX model to serve: it needs inputs and outputs, each with a name of its own")
        return StatedSchema(tuple(given), tuple(made))

    def _weight(self, span: Span) -> str:
        """The name of a stored tensor, which must be in the file."""
        name = ""
        for number, kind, part in self._wire.fields(span):
            if number == _TENSOR_NAME and kind == LENGTH:
                name = self._bytes(part).decode()
            elif number == _TENSOR_LOCATION and kind == VARINT and part[0] == onnx.TensorProto.EXTERNAL:
                raise RefusedError(
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
            raise RefusedError(f"its {what} is {stated}", advice)
        tensor = value.type.tensor_type
        data_type = _DATA_TYPES.get(tensor.elem_type)
        if data_type is None:
            problem = f"its {what} has elements of ONNX type {tensor.elem_type}"
            raise RefusedError(problem, "export it with " + ", ".join(DataType))
        if not tensor.HasField("shape"):
            return StatedTensor(name, data_type, None)
        sizes = [dim.dim_value if dim.dim_value > 0 else -1 for dim in tensor.shape.dim]
        if not sizes or sizes[0] not in (-1, 1):
            problem = f"its {what} has the fixed shape {sizes}, without a first dimension for the batch"
            raise RefusedError(problem, "export it with a dynamic first dimension")
        return StatedTensor(name, data_type, tuple(sizes[1:]))

    def _bytes(self, span: Span) -> bytes:
        if span[1] - span[0] > _TENSOR_BYTES_MAX:
            raise BrokenError(f"a name or type in it is longer than {_TENSOR_BYTES_MAX} bytes")
        return self._data[span[0] : span[1]]


def _name(name: object) -> str:
    """`name` itself; protobuf gives bytes where a name is no UTF-8."""
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_LENGTH_MAX or not name.isprintable():
        allowed = f"1 to {_NAME_LENGTH_MAX} printable characters"
        raise BrokenError(f"an input or output of it has the name {shown(name)}; allowed: {allowed}")
    return name
