"""The Open Inference Protocol over REST: `/v2/…`, with its own form of errors."""

import asyncio
from collections.abc import Callable, Mapping

import orjson

from services.batcher.bridge.messages import Answer, Handler, Request, answer
from services.batcher.codec import oip_json
from services.batcher.faces.bodies import whole_body
from services.batcher.faces.call import HEADER_CACHE, Call
from services.batcher.faces.caller import Asks
from services.batcher.faces.core import Core
from services.batcher.faces.oip import infer_tensors
from services.batcher.faces.oip_grpc import EXTENSIONS, PLATFORM, SERVER_NAME, SERVER_VERSION, is_served
from services.batcher.faces.plain import JSON_TYPE
from services.common.errors import Code, MeshError, Reason, shown
from services.common.grpc.status import http_status
from services.common.schema import TensorSpec

_HEADER_LENGTH = b"inference-header-content-length"
_ENCODINGS = (b"", b"identity")
_LENGTH_DIGITS_MAX = 12


class RestFace:
    """Answers everything under `/v2`."""

    prefix = "/v2/models/"

    def __init__(self, core: Core, *, ready: Callable[[], bool]) -> None:
        self._core = core
        self._ready = ready

    def handlers(self) -> Mapping[str, Handler]:
        """What answers the paths that name no model."""
        return {
            "/v2": self._server,
            "/v2/": self._server,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._server_ready,
        }

    async def __call__(self, request: Request) -> Answer:
        """Answers what is asked of a model: `/v2/models/{name}[/versions/{version}][/ready|/infer]`."""
        name, version, action = _parts(request.path)
        post = request.method == "POST"
        if action == "infer" and post:
            return await self._infer(request, name, version)
        if action == "ready" and not post:
            return self._model_ready(request, name, version)
        if action == "" and not post:
            return self._metadata(request, name, version)
        return answer(404, orjson.dumps({"error": f"nothing answers at {request.method} {request.path}"}), [JSON_TYPE])

    async def _server(self, request: Request) -> Answer:
        try:
            self._call(request).caller.check(Asks.MODEL)
        except MeshError as error:
            return _error(error)
        body = {"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS}
        return answer(200, orjson.dumps(body), [JSON_TYPE])

    async def _live(self, _request: Request) -> Answer:
        return answer(200, b'{"live":true}', [JSON_TYPE])

    async def _server_ready(self, _request: Request) -> Answer:
        ready = self._ready()
        return answer(200 if ready else 503, orjson.dumps({"ready": ready}), [JSON_TYPE])

    def _call(self, request: Request) -> Call:
        now_s, headers = self._core.monotonic(), request.headers
        return Call(headers, arrived_s=now_s, caller=self._core.callers.of(headers, now_s))

    def _model_ready(self, request: Request, name: str, version: str) -> Answer:
        caller = self._call(request).caller
        try:
            caller.check(Asks.MODEL)
        except MeshError as error:
            return _error(error)
        served = self._ready() and is_served(self._core, caller, name, version)
        return answer(200 if served else 404, orjson.dumps({"ready": served}), [JSON_TYPE])

    def _metadata(self, request: Request, name: str, version: str) -> Answer:
        call = self._call(request)
        try:
            call.caller.check(Asks.MODEL)
            plan = self._core.resolve(call, name, version)
        except MeshError as error:
            return _error(error)
        schema = plan.served.schema
        body = {
            "name": plan.served.model_name,
            "versions": sorted(self._core.catalog.model(name, call.caller).served.versions),
            "platform": PLATFORM,
            "inputs": [_tensor(spec) for spec in schema.inputs],
            "outputs": [_tensor(spec) for spec in schema.outputs],
        }
        return answer(200, orjson.dumps(body), [JSON_TYPE])

    async def _infer(self, request: Request, name: str, version: str) -> Answer:
        core = self._core
        call = self._call(request)
        core.begin(call)
        try:
            if call.caller.limited:
                call.caller.check(Asks.PREDICTION)
            body, header_length = await self._answer(call, whole_body(request), name, version)
        except asyncio.CancelledError as error:
            core.failed(call, error, face="REST infer")
            raise
        except Exception as error:
            return _error(core.failed(call, error, face="REST infer"))
        finally:
            core.end(call)
        headers = [JSON_TYPE]
        if header_length is not None:
            headers = [
                (b"content-type", b"application/octet-stream"),
                (_HEADER_LENGTH, str(header_length).encode()),
            ]
        if call.cached is not None:
            headers.append((HEADER_CACHE, call.cached.value.encode()))
        headers.append((b"content-length", str(len(body)).encode()))
        return answer(200, body, headers)

    async def _answer(self, call: Call, body: bytes, name: str, version: str) -> tuple[bytes, int | None]:
        headers = call.headers
        encoding = headers.get(b"content-encoding", b"")
        if encoding not in _ENCODINGS:
            raise MeshError(
                Reason.NOT_IMPLEMENTED,
                f"content-encoding {shown(encoding.decode('latin-1'))} is not taken; send the body uncompressed",
            )
        stated = headers.get(_HEADER_LENGTH)
        if stated is not None and not (stated.isdigit() and len(stated) <= _LENGTH_DIGITS_MAX):
            raise MeshError(
                Reason.MALFORMED_BODY,
                f"Inference-Header-Content-Length is {shown(stated.decode('latin-1'))}; "
                "allowed: the number of bytes of the JSON before the tensors",
            )
        # The model first: who asks for one that is not served learns that, whatever else is wrong.
        self._core.catalog.model(name, call.caller)
        call.model_name = name
        request = oip_json.read(body, int(stated) if stated else None, model_name=name, version=version)
        answered = await infer_tensors(self._core, call, request.tensors)
        served = answered.plan.served
        return oip_json.write(request, answered.result, model_name=served.model_name, version=served.version)


def _parts(path: str) -> tuple[str, str, str]:
    """Model, version and action of a path; an action that is none where it has other parts."""
    name, *rest = path.removeprefix(RestFace.prefix).split("/")
    version = ""
    if rest[:1] == ["versions"] and len(rest) > 1:
        version, rest = rest[1], rest[2:]
    return name, version, "/".join(rest)


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.data_type.value, "shape": [-1, *spec.shape]}


def _error(error: MeshError) -> Answer:
    headers = [JSON_TYPE]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    if error.code is Code.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    body = orjson.dumps({"error": error.message, "reason": error.reason.value})
    return answer(http_status(error.code), body, headers)
