"""TensorFlow Serving over REST: its predict API in the columnar format, which is the one that has no rule of its own
for inputs and the most compact.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from collections.abc import Sequence
from urllib.parse import quote

from services.batcher.adapters.http_probe import HttpProbe
from services.batcher.adapters.http_wire import GarbledError, Response
from services.batcher.adapters.json_client import JsonClient, kind_of, post
from services.batcher.adapters.json_values import (
    Column,
    cut,
    dumps,
    dumps_finite,
    finite,
    loads,
    nested,
    numbers,
    tensor_of,
    texts,
)
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.refused import UnsayableError
from services.batcher.adapters.triton_wire import words_of
from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape, InputShape
from services.common.schema import DataType

NO_PARAMETERS = "TensorFlow Serving takes no parameters; leave them out, or make them inputs of the model"


def tensorflow_rest_client(outside: Outside) -> JsonClient:
    """The client of a server."""
    return JsonClient(outside, TensorFlowRest())


class TensorFlowRest:
    """A `Dialect`."""

    health_path = "/v1/models/-"
    """It has no health endpoint: even that there is no such model says that it is there."""
    any_answer = True

    def met(self, probe: HttpProbe) -> None:
        """It has nothing to say of itself."""

    def format(self, shape: CallShape, backend: Backend, *, host: str) -> "TensorFlowRestFormat":
        """The requests of one shape to one model."""
        return TensorFlowRestFormat(shape, backend, host=host)


def tensorflow_path(server_model_name: str, server_model_version: str) -> str:
    """Where a model is found, or one version of it: its number, or a label."""
    path = f"/v1/models/{quote(server_model_name, safe='')}"
    if not server_model_version:
        return path
    kind = "versions" if server_model_version.isdecimal() else "labels"
    return f"{path}/{kind}/{quote(server_model_version, safe='')}"


class TensorFlowRestFormat:
    """A `BatchFormat`."""

    def __init__(self, shape: CallShape, backend: Backend, *, host: str) -> None:
        self._path = f"{tensorflow_path(backend.server_model_name, backend.server_model_version)}:predict"
        self._host = host
        self._shape = shape
        self._head: dict[str, object] = {"signature_name": backend.signature_name} if backend.signature_name else {}

    def write(self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> bytes:
        """One whole request."""
        if self._shape.parameters:
            raise UnsayableError(NO_PARAMETERS)
        columns = list(zip(self._shape.inputs, cut(sizes_bytes, buffers), strict=True))
        values = {one.name: column(one, rows, data) for one, data in columns}
        # NaN and infinities have words in this protocol; the fast way has none.
        write = dumps_finite if all(isinstance(one, list) or finite(one) for one in values.values()) else dumps
        return post(self._path, self._host, write({**self._head, "inputs": values}))

    def read(self, response: Response) -> list[Tensor]:
        """The outputs: by name, or the only one without its name."""
        document = loads(response.body)
        outputs = document.get("outputs") if isinstance(document, dict) else None
        if outputs is None:
            raise GarbledError('the answer has no "outputs"')
        specs = self._shape.outputs
        if not isinstance(outputs, dict):
            if len(specs) != 1:
                raise GarbledError(f"the answer has one output; {len(specs)} were asked for")
            outputs = {specs[0].name: outputs}
        # A model may give more than the schema promises; types are known of what it promises.
        return [tensor_of(spec.name, spec.data_type, outputs[spec.name]) for spec in specs if spec.name in outputs]

    def failure(self, response: Response) -> BackendFailure:
        """What any other answer means."""
        return BackendFailure(kind_of(response.status), words_of(response))


def column(one: InputShape, rows: int, data: memoryview) -> Column:
    """An input as JSON, with its dimensions. Bytes that are no text go as {"b64": …}."""
    if one.data_type is DataType.BYTES:
        return nested(texts(data, name=one.name, base64_allowed=True), (rows, *one.row_shape))
    return numbers(one, rows, data)
