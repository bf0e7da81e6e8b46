"""Inference requests and answers of the Open Inference Protocol over HTTP with its binary tensors.

A batch's JSON differs from the next one's in rows and sizes only, so it is a format of bytes made once for each shape.
"""

from collections.abc import Sequence
from urllib.parse import quote

import orjson

from services.batcher.adapters.http_wire import GarbledError, Response
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.domain.shape import CallShape, InputShape
from services.common.schema import DataType

_TYPES = {data_type.value: data_type for data_type in DataType}
_MESSAGE_LENGTH_MAX = 2000


class RequestFormat:
    """The requests of one shape to one model."""

    __slots__ = ("_head", "_json")

    def __init__(self, shape: CallShape, *, server_model_name: str, host: str, server_model_version: str = "") -> None:
        path = model_path(server_model_name, server_model_version)
        self._head = (
            f"POST {_escaped(path)}/infer HTTP/1.1\r\nHost: {_escaped(host)}\r\n"
            "Content-Type: application/octet-stream\r\n"
            "Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
        ).encode()
        parameters: dict[str, object] = dict(shape.parameters)
        parts = [b'{"inputs":[', b",".join(_input(one) for one in shape.inputs), b"]"]
        if shape.outputs:
            outputs = [{"name": spec.name, "parameters": {"binary_data": True}} for spec in shape.outputs]
            parts += [b',"outputs":', _constant(outputs)]
        else:
            parameters["binary_data_output"] = True
        if parameters:
            parts += [b',"parameters":', _constant(parameters)]
        self._json = b"".join([*parts, b"}"])

    def write(
        self,
        rows: int,
        sizes_bytes: Sequence[int],
        buffers: Sequence[bytes | memoryview],
        *,
        traceparent: bytes = b"",
    ) -> bytes:
        """One whole request."""
        if len(sizes_bytes) == 1:
            size = sizes_bytes[0]
            header = self._json % (rows, size)
        else:
            size = sum(sizes_bytes)
            header = self._json % tuple(number for one in sizes_bytes for number in (rows, one))
        head = self._head % (len(header), len(header) + size)
        if traceparent:
            head = b"%straceparent: %s\r\n\r\n" % (head[:-2], traceparent)
        return b"".join([head, header, *buffers])


def model_path(server_model_name: str, server_model_version: str = "") -> str:
    """Where a model is found, or one version of it."""
    path = f"/v2/models/{quote(server_model_name, safe='')}"
    return f"{path}/versions/{quote(server_model_version, safe='')}" if server_model_version else path


def read_outputs(response: Response) -> list[Tensor]:
    """The tensors of an answer, as they are ordered and shaped there. Raises GarbledError."""
    body, header_length = response.body, response.header_length
    if header_length is None:
        header_length = len(body)
    try:
        meta = orjson.loads(body[:header_length])
        at = header_length
        tensors = []
        for output in meta["outputs"]:
            end = at + output["parameters"]["binary_data_size"]
            tensors.append(Tensor(output["name"], _TYPES[output["datatype"]], tuple(output["shape"]), body[at:end]))
            at = end
    except (ValueError, KeyError, TypeError) as error:
        raise GarbledError(f"the answer cannot be read ({type(error).__name__}: {error})") from error
    if at != len(body):
        raise GarbledError(f"the answer has {len(body)} bytes and describes {at}")
    return tensors


def read_failure(response: Response) -> BackendFailure:
    """What an answer other than 200 means."""
    message = words_of(response)
    if response.status == 404 or "unknown model" in message or "is not ready" in message:
        kind = FailureKind.MISSING
    elif response.status in (429, 503):
        kind = FailureKind.OVERLOADED
    elif "tub process" in message:
        # The python backend's stub died; Triton starts another one.
        kind = FailureKind.CRASHED
    else:
        kind = FailureKind.MODEL
    return BackendFailure(kind, message)


def _input(one: InputShape) -> bytes:
    row_shape = b"".join(b",%d" % size for size in one.row_shape)
    name, data_type = _constant(one.name), one.data_type.value.encode()
    return b"".join(
        [
            b'{"name":', name, b',"datatype":"', data_type, b'","shape":[%d', row_shape,
            b'],"parameters":{"binary_data_size":%d}}',
        ]
    )  # fmt: skip


def _constant(value: object) -> bytes:
    return orjson.dumps(value).replace(b"%", b"%%")


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def words_of(response: Response) -> str:
    """The server's own words, without the stack of file names that its Python adds."""
    try:
        text = str(orjson.loads(response.body)["error"])
    except (ValueError, KeyError, TypeError):
        text = bytes(response.body[:_MESSAGE_LENGTH_MAX]).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("At:", "/"))] or lines
    return " ".join(kept)[:_MESSAGE_LENGTH_MAX] or f"HTTP {response.status}"
