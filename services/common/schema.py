"""What a model version takes and gives, as values: the domain twin of `infermesh.common.v1.ModelSchema`."""

from dataclasses import dataclass
from enum import StrEnum


class DataType(StrEnum):
    """The element type of a tensor, named as the Open Inference Protocol names it."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def size_bytes(self) -> int:
        """Bytes of one element; 0 for BYTES, whose elements are of any length."""
        return _SIZES_BYTES[self]

    @property
    def numpy_name(self) -> str:
        """numpy's name of the little-endian type; "object" for BYTES; BF16 has none and raises ValueError."""
        if self is DataType.BF16:
            raise ValueError("numpy has no bfloat16")
        return _NUMPY_NAMES[self]

    @property
    def is_float(self) -> bool:
        """Whether values are real numbers."""
        return self in (DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64)

    @property
    def is_integer(self) -> bool:
        """Whether values are whole numbers."""
        return self.value.startswith(("INT", "UINT"))


_NUMPY_NAMES = {
    DataType.BOOL: "?",
    DataType.UINT8: "u1",
    DataType.UINT16: "<u2",
    DataType.UINT32: "<u4",
    DataType.UINT64: "<u8",
    DataType.INT8: "i1",
    DataType.INT16: "<i2",
    DataType.INT32: "<i4",
    DataType.INT64: "<i8",
    DataType.FP16: "<f2",
    DataType.FP32: "<f4",
    DataType.FP64: "<f8",
    DataType.BYTES: "object",
}
_SIZES_BYTES = {
    DataType.BOOL: 1,
    DataType.UINT8: 1,
    DataType.UINT16: 2,
    DataType.UINT32: 4,
    DataType.UINT64: 8,
    DataType.INT8: 1,
    DataType.INT16: 2,
    DataType.INT32: 4,
    DataType.INT64: 8,
    DataType.FP16: 2,
    DataType.BF16: 2,
    DataType.FP32: 4,
    DataType.FP64: 8,
    DataType.BYTES: 0,
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One feature or result. `shape` is that of one row: () for a scalar, -1 for a dimension of any size."""

    name: str
    data_type: DataType
    shape: tuple[int, ...] = ()
    optional: bool = False
    default_json: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """The tensors of a version, in the order the model states them; the batch dimension is left out."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictionMapping:
    """How output tensors become predictions. Empty names: the first output; no probabilities."""

    output_tensor: str = ""
    probabilities_tensor: str = ""
    class_names: tuple[str, ...] = ()
