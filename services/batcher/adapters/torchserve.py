"""TorchServe over REST, by the one convention that its handlers share: the rows of a batch as "instances", as its
`json` envelope reads them (`service_envelope=json`), and one prediction for each row.

    POST /predictions/m[/version]   {"instances": [row, …], "parameters": {…}}
    → {"predictions": [row, …]} or [row, …]

A row is the value of the only input, else an object with the inputs by name; and of an answer, of the outputs
likewise. Bytes that are no text are {"b64": …}. TorchServe has no tensors of its own: types and shapes are the
schema's.
"""

from collections.abc import Sequence
from urllib.parse import quote

import orjson

from services.batcher.adapters.http_probe import HttpProbe
from services.batcher.adapters.http_wire import GarbledError, Response
from services.batcher.adapters.json_client import JsonClient, kind_of, post
from services.batcher.adapters.json_values import cut, dumps, dumps_finite, finite, loads, tensor_of
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.tensorflow_rest import column
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape
from services.common.schema import TensorSpec

_MESSAGE_LENGTH_MAX = 2000


def torchserve_client(outside: Outside) -> JsonClient:
    """The client of a server, by its inference address."""
    return JsonClient(outside, TorchServe())


class TorchServe:
    """A `Dialect`."""

    health_path = "/ping"
    any_answer = True
    """Other than 200 it says that a worker of any model is down."""

    def met(self, probe: HttpProbe) -> None:
        """It has nothing to say of itself."""

    def format(self, shape: CallShape, backend: Backend, *, host: str) -> "TorchServeFormat":
        """The requests of one shape to one model."""
        return TorchServeFormat(shape, backend, host=host)


class TorchServeFormat:
    """A `BatchFormat`."""

    def __init__(self, shape: CallShape, backend: Backend, *, host: str) -> None:
        path = f"/predictions/{quote(backend.server_model_name, safe='')}"
        version = backend.server_model_version
        self._path = f"{path}/{quote(version, safe='')}" if version else path
        self._host = host
        self._shape = shape
        self._rest: dict[str, object] = {"parameters": dict(shape.parameters)} if shape.parameters else {}

    def write(self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> bytes:
        """One whole request."""
        parts = zip(self._shape.inputs, cut(sizes_bytes, buffers), strict=True)
        columns = {one.name: column(one, rows, data) for one, data in parts}
        if len(columns) == 1:
            (instances,) = columns.values()
            all_finite = isinstance(instances, list) or finite(instances)
        else:
            all_finite = all(isinstance(values, list) or finite(values) for values in columns.values())
            listed = {name: values if isinstance(values, list) else values.tolist() for name, values in columns.items()}
            instances = [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]
        write = dumps_finite if all_finite else dumps
        return post(self._path, self._host, write({"instances": instances, **self._rest}))

    def read(self, response: Response) -> list[Tensor]:
        """The predictions, row by row."""
        document = loads(response.body)
        rows = document.get("predictions") if isinstance(document, dict) else document
        if not isinstance(rows, list):
            raise GarbledError('the answer is neither {"predictions": [one for each instance]} nor such a list')
        specs = self._shape.outputs
        return [tensor_of(spec.name, spec.data_type, _column(rows, spec, only=len(specs) == 1)) for spec in specs]

    def failure(self, response: Response) -> BackendFailure:
        """What any other answer means. That a handler raised comes as 503 too."""
        message = _said(response)
        if "has no worker" in message:
            kind = FailureKind.MISSING
        elif "Worker died" in message:
            kind = FailureKind.CRASHED
        elif response.status == 503 and "Prediction failed" in message:
            kind = FailureKind.MODEL
        else:
            kind = kind_of(response.status)
        return BackendFailure(kind, message)


def _column(rows: list[object], spec: TensorSpec, *, only: bool) -> list[object]:
    values = []
    for number, row in enumerate(rows):
        if isinstance(row, dict) and spec.name in row:
            values.append(row[spec.name])
        elif only and not isinstance(row, dict):
            values.append(row)
        else:
            raise GarbledError(f"prediction {number} has no {spec.name!r}")
    return values


def _said(response: Response) -> str:
    try:
        said = orjson.loads(response.body)
        text = str(said["message"])
    except (ValueError, KeyError, TypeError):
        text = bytes(response.body[:_MESSAGE_LENGTH_MAX]).decode(errors="replace")
    return text.strip()[:_MESSAGE_LENGTH_MAX] or f"HTTP {response.status}"
