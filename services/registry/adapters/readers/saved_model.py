"""TensorFlow SavedModels: the tensors of the serving signature, out of the graph's description."""

from collections.abc import Mapping

from services.common.schema import DataType
from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.wire import LENGTH, Span, Wire
from services.registry.domain.frameworks import Understood
from services.registry.domain.schemas import StatedSchema, StatedTensor

_FILE = "saved_model.pb"
_SERVING = "serving_default"
_TENSORS_MAX = 4096
# The numbers of tensorflow/core/protobuf/{saved_model,meta_graph}.proto and of tensor_shape.proto.
_META_GRAPHS, _META_INFO, _SIGNATURES, _VERSION, _TAGS = 2, 1, 5, 5, 4
_KEY, _VALUE = 1, 2
_INPUTS, _OUTPUTS = 1, 2
_SPARSE, _COMPOSITE, _DTYPE, _SHAPE = 4, 5, 2, 3
_DIMENSION, _UNKNOWN_RANK, _SIZE = 2, 3, 1
_DATA_TYPES: Mapping[int, DataType] = {
    1: DataType.FP32,
    2: DataType.FP64,
    3: DataType.INT32,
    4: DataType.UINT8,
    5: DataType.INT16,
    6: DataType.INT8,
    7: DataType.BYTES,
    9: DataType.INT64,
    10: DataType.BOOL,
    14: DataType.BF16,
    17: DataType.UINT16,
    19: DataType.FP16,
    22: DataType.UINT32,
    23: DataType.UINT64,
}


class SavedModelReader:
    """A `FormatReader`."""

    form = "a TensorFlow SavedModel"

    def why_not(self, contents: Contents) -> str:
        """A folder with the graph's description at its top."""
        return "" if contents.packed and _FILE in contents.files else f"no SavedModel (no folder with {_FILE})"

    def read(self, contents: Contents) -> Understood:
        """The tensors of `serving_default`. Raises RefusedError."""
        return _Graph(Wire(contents.files[_FILE].window())).understood()


class _Graph:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def understood(self) -> Understood:
        wire = self._wire
        graphs = list(wire.parts(wire.whole, _META_GRAPHS))
        serving = [graph for graph in graphs if "serve" in self._tags(graph)]
        if not graphs:
            raise BrokenError("its saved_model.pb holds no graph")
        graph = (serving or graphs)[0]
        signatures = self._map(graph, _SIGNATURES)
        if _SERVING not in signatures:
            have = ", ".join(name for name in signatures if not name.startswith("__")) or "none"
            raise RefusedError(
                f"it has no signature {_SERVING!r}; it has {have[:200]}", "save it with signatures=… or model.export()"
            )
        signature = signatures[_SERVING]
        stated = StatedSchema(self._tensors(signature, _INPUTS, "input"), self._tensors(signature, _OUTPUTS, "output"))
        info = wire.part(graph, _META_INFO)
        version = wire.text(wire.part(info, _VERSION)) if info is not None else ""
        return Understood("tensorflow", "a TensorFlow SavedModel", stated, version[:64])

    def _tags(self, graph: Span) -> set[str]:
        info = self._wire.part(graph, _META_INFO)
        return {self._wire.text(tag) for tag in self._wire.parts(info, _TAGS)} if info is not None else set()

    def _map(self, span: Span, number: int) -> Mapping[str, Span]:
        found: dict[str, Span] = {}
        for entry in self._wire.parts(span, number):
            name = self._wire.text(self._wire.part(entry, _KEY))
            value = self._wire.part(entry, _VALUE)
            found[name] = value if value is not None else (0, 0)
            if len(found) > _TENSORS_MAX:
                raise RefusedError(f"it has more than {_TENSORS_MAX} tensors or signatures")
        return found

    def _tensors(self, signature: Span, number: int, side: str) -> tuple[StatedTensor, ...]:
        tensors = self._map(signature, number)
        if not tensors:
            raise RefusedError(f"its signature {_SERVING!r} has no {side}s", "save it with one that has")
        # A protobuf map has no order of its own.
        return tuple(self._tensor(name, tensors[name], side) for name in sorted(tensors))

    def _tensor(self, name: str, span: Span, side: str) -> StatedTensor:
        wire = self._wire
        if not 0 < len(name) <= 256 or not name.isprintable():
            raise BrokenError(f"an {side} of it has the name {name[:60]!r}")
        if any(field in (_SPARSE, _COMPOSITE) and kind == LENGTH for field, kind, _ in wire.fields(span)):
            raise RefusedError(f"its {side} {name!r} is sparse or composed", "save it with dense tensors only")
        data_type = _DATA_TYPES.get(wire.number(span, _DTYPE))
        if data_type is None:
            raise RefusedError(
                f"its {side} {name!r} has elements that no tensor of the mesh has", "save it with others"
            )
        shape = wire.part(span, _SHAPE)
        if shape is None or wire.number(shape, _UNKNOWN_RANK):
            return StatedTensor(name, data_type, None)
        sizes = [wire.number(dimension, _SIZE) for dimension in wire.parts(shape, _DIMENSION)]
        sizes = [size if 0 < size < 2**31 else -1 for size in sizes]
        if not sizes or sizes[0] not in (-1, 1):
            raise RefusedError(
                f"its {side} {name!r} has the fixed shape {sizes}, without a first dimension for the batch",
                "save it with an open first dimension (None)",
            )
        return StatedTensor(name, data_type, tuple(sizes[1:]))
