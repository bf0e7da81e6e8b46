"""Any server of the Open Inference Protocol over REST: JSON tensors, and bytes where the server says it takes them.

https://github.com/kserve/open-inference-protocol, and for bytes
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from collections.abc import Sequence

from services.batcher.adapters.http_probe import HttpProbe
from services.batcher.adapters.http_wire import GarbledError, Response
from services.batcher.adapters.json_client import JsonClient, kind_of, post
from services.batcher.adapters.json_values import cut, dumps_finite, finite, loads, numbers, tensor_of, texts
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.refused import UnsayableError
from services.batcher.adapters.triton_wire import RequestFormat, model_path, read_failure
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape, InputShape
from services.common.schema import DataType

_TYPES = {data_type.value: data_type for data_type in DataType}
_BINARY = "binary_tensor_data"


def oip_rest_client(outside: Outside) -> JsonClient:
    """The client of a server."""
    return JsonClient(outside, OipRest())


class OipRest:
    """A `Dialect`."""

    health_path = "/v2/health/live"
    """Ready, it would say nothing while any of its models is loading."""
    any_answer = False

    def __init__(self) -> None:
        self.binary = False
        """Whether the server takes tensors as bytes."""

    def met(self, probe: HttpProbe) -> None:
        """Asks which extensions the server has. Until it has answered, JSON is what every server takes."""
        probe.ask("/v2", self._told)

    def format(self, shape: CallShape, backend: Backend, *, host: str) -> "OipRestFormat":
        """The requests of one shape to one model."""
        return OipRestFormat(self, shape, backend, host=host)

    def _told(self, response: Response | None) -> None:
        if response is None:
            return
        try:
            said = loads(response.body)
        except GarbledError:
            said = None
        extensions = said.get("extensions") if response.status == 200 and isinstance(said, dict) else None
        self.binary = isinstance(extensions, list) and _BINARY in extensions


class OipRestFormat:
    """A `BatchFormat`."""

    def __init__(self, dialect: OipRest, shape: CallShape, backend: Backend, *, host: str) -> None:
        model, version = backend.server_model_name, backend.server_model_version
        self._dialect = dialect
        self._binary = RequestFormat(shape, server_model_name=model, server_model_version=version, host=host)
        self._path = f"{model_path(model, version)}/infer"
        self._host = host
        self._inputs = shape.inputs
        self._rest: dict[str, object] = {}
        if shape.outputs:
            self._rest["outputs"] = [{"name": spec.name} for spec in shape.outputs]
        if shape.parameters:
            self._rest["parameters"] = dict(shape.parameters)

    def write(self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> bytes:
        """One whole request."""
        if self._dialect.binary:
            return self._binary.write(rows, sizes_bytes, buffers)
        parts = zip(self._inputs, cut(sizes_bytes, buffers), strict=True)
        document = {"inputs": [_input(one, rows, data) for one, data in parts], **self._rest}
        return post(self._path, self._host, dumps_finite(document))

    def read(self, response: Response) -> list[Tensor]:
        """The outputs, each in the form that the server chose."""
        body = response.body
        header_length = len(body) if response.header_length is None else response.header_length
        document = loads(body[:header_length])
        at = header_length
        tensors = []
        try:
            assert isinstance(document, dict)
            for output in document["outputs"]:
                name, data_type, shape = str(output["name"]), _TYPES[output["datatype"]], output["shape"]
                size = (output.get("parameters") or {}).get("binary_data_size")
                if size is None:
                    tensors.append(tensor_of(name, data_type, _flat(output["data"]), shape=shape))
                else:
                    tensors.append(Tensor(name, data_type, tuple(shape), body[at : at + size]))
                    at += size
        except (AssertionError, AttributeError, KeyError, TypeError) as error:
            raise GarbledError(f"the answer cannot be read ({type(error).__name__}: {error})") from error
        if at != len(body):
            raise GarbledError(f"the answer has {len(body)} bytes and describes {at}")
        return tensors

    def failure(self, response: Response) -> BackendFailure:
        """What any other answer means."""
        failure = read_failure(response)
        if failure.kind is FailureKind.MODEL:
            return BackendFailure(kind_of(response.status), failure.message)
        return failure


def _input(one: InputShape, rows: int, data: memoryview) -> dict[str, object]:
    values: object
    if one.data_type is DataType.BYTES:
        values = texts(data, name=one.name, base64_allowed=False)
    else:
        array = numbers(one, rows, data)
        if not finite(array):
            raise UnsayableError(
                f"input {one.name!r} holds NaN or an infinity, for which JSON has no word, and this server takes JSON; "
                "send numbers, or deploy it by oip-grpc"
            )
        values = array.ravel()
    return {"name": one.name, "datatype": one.data_type.value, "shape": [rows, *one.row_shape], "data": values}


def _flat(values: object) -> object:
    """Servers may nest what they could list."""
    if isinstance(values, list) and any(isinstance(value, list) for value in values):
        return [item for value in values for item in _as_list(_flat(value))]
    return values


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
