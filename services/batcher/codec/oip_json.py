"""The Open Inference Protocol over REST: JSON, with tensors as numbers or, by the binary tensor extension, as bytes.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from services.batcher.codec.oip_proto import DATA_TYPES, TensorRequest, refuse_unsupported, split_parameters
from services.batcher.domain.outputs import single_precision
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.schema_check import Violations, list_bytes
from services.batcher.domain.tensors import as_array, split_bytes
from services.common.errors import MeshError, Reason, invalid, shown
from services.common.schema import DataType

_DIMENSIONS_MAX = 16
_EXAMPLE = 'an object such as {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}]}'


@dataclass(slots=True)
class RestRequest:
    """A request and in what form its outputs are wanted."""

    tensors: TensorRequest
    binary_default: bool = False
    binary: dict[str, bool] = field(default_factory=dict)
    """By output; others as the default says."""


def read(body: bytes, header_length: int | None, *, model_name: str, version: str) -> RestRequest:
    """The request. `header_length`: the JSON's bytes, where tensors follow as bytes. Raises MALFORMED_BODY,
    INVALID_FIELD or NOT_IMPLEMENTED."""
    if header_length is not None and not 0 < header_length <= len(body):
        raise _malformed(f"Inference-Header-Content-Length is {header_length} and the body has {len(body)} bytes")
    view = memoryview(body)
    try:
        document = orjson.loads(view[:header_length])
    except orjson.JSONDecodeError as error:
        raise _malformed(f"the body is no JSON: {error}; send {_EXAMPLE}") from None
    if not isinstance(document, dict):
        raise _malformed(f"the body is {shown(document, length_max=60)}; send {_EXAMPLE}")
    binaries = _Binaries(view[header_length:] if header_length is not None else memoryview(b""))
    inputs = [_input(item, place, binaries) for place, item in enumerate(_objects(document, "inputs"))]
    binaries.finish()
    request_id = document.get("id") or ""
    if not isinstance(request_id, str):
        raise invalid("id", request_id, "a text")
    wanted = _objects(document, "outputs") if document.get("outputs") else []
    given = document.get("parameters") or {}
    if not isinstance(given, dict):
        raise invalid("parameters", given, "an object")
    parameters, timeout_ms = split_parameters(given)
    request = RestRequest(
        TensorRequest(model_name, version, request_id, inputs, (), parameters, timeout_ms),
        binary_default=bool(given.get("binary_data_output", False)),
    )
    request.tensors.outputs = tuple(_output(item, place, request) for place, item in enumerate(wanted))
    return request


def write(request: RestRequest, result: InferResult, *, model_name: str, version: str) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where tensors follow as bytes. Raises NOT_IMPLEMENTED where a tensor has no
    JSON form."""
    outputs: list[dict[str, object]] = []
    binaries: list[bytes | memoryview] = []
    for tensor in result.outputs:
        entry: dict[str, object] = {
            "name": tensor.name,
            "datatype": tensor.data_type.value,
            "shape": list(tensor.shape),
        }
        if request.binary.get(tensor.name, request.binary_default):
            entry["parameters"] = {"binary_data_size": len(tensor.data)}
            binaries.append(tensor.data)
        else:
            entry["data"] = _data(tensor)
        outputs.append(entry)
    document: dict[str, object] = {"model_name": model_name, "model_version": version, "outputs": outputs}
    if request.tensors.request_id:
        document["id"] = request.tensors.request_id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *binaries]), len(head)) if binaries else (head, None)


class _Binaries:
    """The bytes behind the JSON, handed out in order."""

    def __init__(self, rest: memoryview) -> None:
        self._rest = rest

    def take(self, size: object, path: str) -> bytes:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(self._rest):
            raise invalid(
                f"{path}.parameters.binary_data_size", size, f"0 to {len(self._rest)}, what is left of the body"
            )
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def finish(self) -> None:
        if len(self._rest):
            raise _malformed(
                f"{len(self._rest)} bytes behind the JSON belong to no input; state binary_data_size of each"
            )


def _objects(document: Mapping[str, object], name: str) -> list[dict[str, object]]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid(name, value, "a list of objects")
    return value


def _input(item: Mapping[str, object], place: int, binaries: _Binaries) -> Tensor:
    path = f"inputs[{place}]"
    name, shape = item.get("name"), item.get("shape")
    data_type = DATA_TYPES.get(str(item.get("datatype")))
    if not isinstance(name, str):
        raise invalid(f"{path}.name", name, "a text")
    if data_type is None:
        raise invalid(f"{path}.datatype", item.get("datatype"), ", ".join(DATA_TYPES))
    if not _is_shape(shape):
        raise invalid(f"{path}.shape", shape, "a list of whole numbers")
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise invalid(f"{path}.parameters", parameters, "an object")
    refuse_unsupported(parameters)
    if "binary_data_size" in parameters:
        data: bytes | None = binaries.take(parameters["binary_data_size"], path)
    else:
        violations = Violations()
        data = list_bytes(data_type, item.get("data"), f"{path}.data", violations)
        if data is None:
            first = violations.found[0]
            raise MeshError(Reason.INVALID_FIELD, f"{first.field} {first.description}", violations=violations.found)
    return Tensor(name, data_type, tuple(shape), data)  # type: ignore[arg-type]


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= _DIMENSIONS_MAX
        and all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    )


def _output(item: Mapping[str, object], place: int, request: RestRequest) -> str:
    name = item.get("name")
    if not isinstance(name, str):
        raise invalid(f"outputs[{place}].name", name, "a text")
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise invalid(f"outputs[{place}].parameters", parameters, "an object")
    refuse_unsupported(parameters)
    if "binary_data" in parameters:
        request.binary[name] = bool(parameters["binary_data"])
    return name


def _data(tensor: Tensor) -> list[object]:
    if tensor.data_type is DataType.BYTES:
        try:
            return [value.decode() for value in split_bytes(tensor.data)]
        except UnicodeDecodeError:
            raise MeshError(
                Reason.NOT_IMPLEMENTED,
                f"output {shown(tensor.name)} holds bytes that are no text and so have no JSON form; ask for it with "
                '"parameters": {"binary_data": true}',
            ) from None
    if tensor.data_type.is_float:
        return single_precision(tensor.data_type, tensor.data)
    values: list[object] = as_array(tensor.data_type, tensor.data).tolist()
    return values


def _malformed(what: str) -> MeshError:
    return MeshError(Reason.MALFORMED_BODY, what)
