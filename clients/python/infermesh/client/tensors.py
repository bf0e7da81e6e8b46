"""Numpy arrays and the tensors of the Open Inference Protocol. Numpy is imported at first use: the rest needs none."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from inference import grpc_service_pb2

if TYPE_CHECKING:
    import numpy as np

_TYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_NUMPY_NAMES = {name: numpy_name for numpy_name, name in _TYPES.items()}


def request_of(
    model: str,
    inputs: "Mapping[str, np.ndarray]",
    *,
    version: str,
    outputs: Sequence[str],
) -> grpc_service_pb2.ModelInferRequest:
    """A request whose tensors travel as bytes. Raises TypeError for an array of a type that has no tensor."""
    request = grpc_service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, array in inputs.items():
        datatype, content = _packed(name, array)
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(content)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def tensors_of(response: grpc_service_pb2.ModelInferResponse) -> "dict[str, np.ndarray]":
    """The answer's arrays by name. They are views of the answer's bytes and read-only."""
    import numpy as np  # noqa: PLC0415 - optional

    if len(response.raw_output_contents) != len(response.outputs):
        raise ValueError(
            f"the answer has {len(response.outputs)} tensors and the bytes of {len(response.raw_output_contents)}"
        )
    arrays = {}
    for tensor, content in zip(response.outputs, response.raw_output_contents, strict=True):
        if tensor.datatype == "BYTES":
            flat = np.array(list(_elements(content)), dtype=np.object_)
        else:
            flat = np.frombuffer(content, dtype=_NUMPY_NAMES[tensor.datatype])
        arrays[tensor.name] = flat.reshape(tuple(tensor.shape))
    return arrays


def _packed(name: str, array: "np.ndarray") -> tuple[str, bytes]:
    import numpy as np  # noqa: PLC0415 - optional

    if array.dtype.kind in "OSU":
        texts = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
        if not all(isinstance(item, bytes) for item in texts):
            raise TypeError(f"inputs[{name!r}] holds objects that are neither text nor bytes")
        return "BYTES", b"".join(struct.pack("<I", len(item)) + item for item in texts)
    datatype = _TYPES.get(array.dtype.name)
    if datatype is None:
        raise TypeError(f"inputs[{name!r}] is of type {array.dtype}, which no tensor has; convert it first")
    return datatype, np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def _elements(content: bytes) -> Iterator[bytes]:
    """The elements of a BYTES tensor: each is preceded by its 4-byte little-endian length."""
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        yield content[at + 4 : at + 4 + length]
        at += 4 + length
