"""Tensors between their bytes and the numbers, texts and lists of JSON."""

import base64
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import orjson

from services.batcher.adapters.http_wire import GarbledError
from services.batcher.adapters.refused import UnsayableError
from services.batcher.domain.request import Tensor
from services.batcher.domain.shape import InputShape
from services.batcher.domain.tensors import as_array, pack, pack_bytes, split_bytes
from services.common.schema import DataType

Json = object
"""What `orjson.loads` returns."""
Column = npt.NDArray[np.generic] | list[Json]
"""A tensor as JSON states it: nested lists, one for each dimension; numbers as numpy keeps them."""

_B64 = "b64"


def cut(sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> list[memoryview]:
    """The data of each tensor."""
    whole = memoryview(b"".join(buffers))
    parts, at = [], 0
    for size in sizes_bytes:
        parts.append(whole[at : at + size])
        at += size
    return parts


def numbers(one: InputShape, rows: int, data: memoryview) -> "npt.NDArray[np.generic]":
    """A numeric input."""
    return as_array(one.data_type, data).reshape((rows, *one.row_shape))


def finite(array: "npt.NDArray[np.generic]") -> bool:
    """Whether JSON has words for every element."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def texts(data: memoryview, *, name: str, base64_allowed: bool) -> list[Json]:
    """The elements of BYTES, flat: texts, and where allowed {"b64": …} for what is no text. Raises UnsayableError."""
    values: list[Json] = []
    for element in split_bytes(data):
        try:
            values.append(element.decode())
        except UnicodeDecodeError:
            if not base64_allowed:
                raise UnsayableError(
                    f"input {name!r} holds bytes that are no text, and this server takes JSON; send text, or deploy it "
                    "by its gRPC protocol"
                ) from None
            values.append({_B64: base64.b64encode(element).decode()})
    return values


def nested(values: list[Json], shape: Sequence[int]) -> list[Json]:
    """A flat list as lists within lists."""
    flat = np.empty(len(values), dtype=object)
    flat[:] = values
    listed: list[Json] = flat.reshape(shape).tolist()
    return listed


def dumps(document: Json) -> bytes:
    """The document as JSON, NaN and infinities as the words that Python, TensorFlow and JavaScript use."""
    return json.dumps(document, default=_plain, separators=(",", ":")).encode()


def dumps_finite(document: Json) -> bytes:
    """The same, faster, where there are none."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def loads(body: memoryview) -> Json:
    """The document, with or without such words. Raises GarbledError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            document: Json = json.loads(bytes(body))
        except ValueError:
            raise GarbledError(f"the answer is no JSON: {error}") from None
        return document


def tensor_of(name: str, data_type: DataType, values: Json, *, shape: Sequence[int] | None = None) -> Tensor:
    """A tensor of what JSON says of it. `shape`: what it is said to have; None: as the lists are nested. Raises
    GarbledError."""
    try:
        if data_type is DataType.BYTES:
            found, elements = _nesting(values)
            data = pack_bytes(_bytes_of(element) for element in elements)
        else:
            array = _array(data_type, values)
            found = array.shape
            data = _packed(data_type, array)
    except (ValueError, TypeError, OverflowError) as error:
        raise GarbledError(f"output {name!r} cannot be read as {data_type.value}: {error}") from None
    if shape is not None:
        if int(np.prod(shape, dtype=np.int64)) != int(np.prod(found, dtype=np.int64)):
            raise GarbledError(f"output {name!r} has {list(found)} elements where its shape is {list(shape)}")
        found = tuple(shape)
    return Tensor(name, data_type, tuple(found), data)


def _array(data_type: DataType, values: Json) -> "npt.NDArray[np.generic]":
    if data_type.is_float:
        # Where JSON has no word for NaN, servers say null.
        return np.array(values, dtype=np.float64)
    # By its own type, for what numpy takes a list of integers of 64 bits for may be floats. Floats it would cut off.
    array = np.array(values, dtype=data_type.numpy_name)
    stated = np.asarray(values)
    if stated.size and stated.dtype.kind not in "iubf":
        raise ValueError("not all elements are numbers")
    if not bool((array.astype(np.float64) == stated.astype(np.float64)).all()):
        raise ValueError("an element does not fit the type")
    return array


def _packed(data_type: DataType, array: "npt.NDArray[np.generic]") -> bytes:
    if data_type is DataType.BF16:
        values: list[float] = array.ravel().tolist()
        return pack(data_type, values)
    with np.errstate(over="ignore"):
        return array.astype(data_type.numpy_name).tobytes()


def _nesting(values: Json) -> tuple[tuple[int, ...], list[Json]]:
    """Shape and elements of nested lists."""
    if not isinstance(values, list):
        return (), [values]
    if not values:
        return (0,), []
    shapes, elements = [], []
    for value in values:
        shape, inner = _nesting(value)
        shapes.append(shape)
        elements += inner
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("lists differ in length")
    return (len(values), *shapes[0]), elements


def _bytes_of(element: Json) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, dict) and element.keys() == {_B64}:
        return base64.b64decode(element[_B64], validate=True)
    raise ValueError(f"{element!r} is no text")


def _plain(value: object) -> Json:
    if isinstance(value, np.ndarray):
        listed: Json = value.tolist()
        return listed
    raise TypeError(f"{type(value).__name__} has no JSON form")
