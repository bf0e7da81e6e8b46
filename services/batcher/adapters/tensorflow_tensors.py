"""Tensors as TensorFlow's protocol buffers have them."""

from collections.abc import Sequence
from math import prod

import numpy as np
from tensorflow_serving import tensor_pb2 as tensorflow

from services.batcher.adapters.http_wire import GarbledError
from services.batcher.domain.request import Tensor
from services.batcher.domain.shape import InputShape
from services.batcher.domain.tensors import Value, pack, split_bytes
from services.common.schema import DataType

TYPES = {
    DataType.FP32: tensorflow.DT_FLOAT,
    DataType.FP64: tensorflow.DT_DOUBLE,
    DataType.INT8: tensorflow.DT_INT8,
    DataType.INT16: tensorflow.DT_INT16,
    DataType.INT32: tensorflow.DT_INT32,
    DataType.INT64: tensorflow.DT_INT64,
    DataType.UINT8: tensorflow.DT_UINT8,
    DataType.UINT16: tensorflow.DT_UINT16,
    DataType.UINT32: tensorflow.DT_UINT32,
    DataType.UINT64: tensorflow.DT_UINT64,
    DataType.BOOL: tensorflow.DT_BOOL,
    DataType.FP16: tensorflow.DT_HALF,
    DataType.BF16: tensorflow.DT_BFLOAT16,
    DataType.BYTES: tensorflow.DT_STRING,
}
_DATA_TYPES = {dtype: data_type for data_type, dtype in TYPES.items()}
_FIELDS = {
    tensorflow.DT_FLOAT: "float_val",
    tensorflow.DT_DOUBLE: "double_val",
    tensorflow.DT_INT64: "int64_val",
    tensorflow.DT_BOOL: "bool_val",
    tensorflow.DT_STRING: "string_val",
    tensorflow.DT_HALF: "half_val",
    tensorflow.DT_BFLOAT16: "half_val",
    tensorflow.DT_UINT32: "uint32_val",
    tensorflow.DT_UINT64: "uint64_val",
}
"""Others are in `int_val`."""
_BITS = frozenset({DataType.FP16, DataType.BF16})
"""Whose lists hold the bits of each element."""
_ELEMENTS_MAX = 256 * 1024 * 1024


def write_tensor(tensor: tensorflow.TensorProto, one: InputShape, rows: int, data: memoryview) -> None:
    """Fills in an input."""
    tensor.dtype = TYPES[one.data_type]
    for size in (rows, *one.row_shape):
        tensor.tensor_shape.dim.add(size=size)
    if one.data_type is DataType.BYTES:
        tensor.string_val.extend(split_bytes(data))
    else:
        tensor.tensor_content = bytes(data)


def read_tensor(name: str, tensor: tensorflow.TensorProto) -> Tensor:
    """An output. Raises GarbledError."""
    data_type = _DATA_TYPES.get(tensor.dtype)
    if data_type is None:
        raise GarbledError(f"output {name!r} has TensorFlow's type {tensor.dtype}, which no input or output can have")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = prod(shape)
    if any(size < 0 for size in shape) or count > _ELEMENTS_MAX:
        raise GarbledError(f"output {name!r} has the shape {list(shape)}")
    if tensor.tensor_content:
        return Tensor(name, data_type, shape, tensor.tensor_content)
    listed: Sequence[Value] = getattr(tensor, _FIELDS.get(tensor.dtype, "int_val"))
    values = list(listed[:count])
    if len(values) < count and values:
        values += [values[-1]] * (count - len(values))
    if len(values) != count:
        raise GarbledError(f"output {name!r} has no elements where its shape is {list(shape)}")
    if data_type in _BITS:
        return Tensor(name, data_type, shape, np.array(values, dtype="<u2").tobytes())
    try:
        return Tensor(name, data_type, shape, pack(data_type, values))
    except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise GarbledError(f"output {name!r} cannot be read as {data_type.value}: {error}") from None
