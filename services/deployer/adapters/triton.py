"""A Triton server: its repository, and trial predictions.

What is loaded and unloaded is so over gRPC, all else over HTTP. Triton loads within the thread that reads the request.
Of the threads of its HTTP endpoint the first one that is idle takes a connection, so most connections are on the same
one, and predictions that batchers send would wait there until the load is over. Calls over gRPC that are no predictions
have a thread of their own.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import grpc
import httpx
from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.deployer.domain.catalog import Place
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import Tensor, TensorShape

_OBSERVE_TIMEOUT_S = 1.0
_INFER_TIMEOUT_S = 30.0
_UNLOAD_TIMEOUT_S = 10.0
_MESSAGE_LENGTH_MAX = 2000
# One connection a call, here too.
_CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
_AWAY = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.CloseError)


class TritonServer:
    """A `ModelServer`. Close it when done."""

    def __init__(self, place: Place, *, load_timeout_s: float) -> None:
        self._place = place
        self._load_timeout_s = load_timeout_s
        # The server's one thread takes them one after another; so a call's time is its own.
        self._turn = asyncio.Lock()
        # One connection a call: a server that was killed leaves no stale connection to stumble over.
        self._client = httpx.AsyncClient(
            base_url=f"http://{place.http_address}",
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0, max_connections=16),
        )

    @property
    def place(self) -> Place:
        """Its name and addresses."""
        return self._place

    async def close(self) -> None:
        """Closes what is open."""
        await self._client.aclose()

    async def observe(self) -> ServerState:
        """Whether it answers, and what is ready in it, by its own repository index."""
        try:
            answer = await self._client.post("/v2/repository/index", json={"ready": True}, timeout=_OBSERVE_TIMEOUT_S)
            if answer.status_code != httpx.codes.OK:
                return ServerState()
            return ServerState(up=True, ready=frozenset(str(model["name"]) for model in answer.json()))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return ServerState()

    async def software(self) -> str:
        """Name and version, for instance "triton 2.51.0"."""
        try:
            answer = (await self._client.get("/v2", timeout=_OBSERVE_TIMEOUT_S)).json()
            return f"{answer['name']} {answer['version']}"
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return ""

    async def load(self, name: str) -> None:
        """Loads a model and waits for it; one whose package was touched since is loaded anew, and answers meanwhile.
        What the model's own code raises is in the error."""
        request = oip.RepositoryModelLoadRequest(model_name=name)
        try:
            async with self._repository() as repository:
                await repository.RepositoryModelLoad(request, timeout=self._load_timeout_s)
        except grpc.aio.AioRpcError as error:
            self._check_away(error, self._load_timeout_s)
            words = _own_words(error.details() or error.code().name)
            raise MeshError(
                Reason.LOAD_FAILED,
                f"the model server {self._place.server_id} refused to load {name}: {words}; "
                "register a version with a sound artifact, or restart the deployment once the cause is mended",
                metadata={"server": self._place.server_id},
            ) from error

    async def unload(self, name: str) -> None:
        """Unloads a model; one that is not there is no error."""
        request = oip.RepositoryModelUnloadRequest(model_name=name)
        try:
            async with self._repository() as repository:
                await repository.RepositoryModelUnload(request, timeout=_UNLOAD_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            self._check_away(error, _UNLOAD_TIMEOUT_S)
            raise self._away(f"answers {error.code().name} to the unloading of {name}") from error

    async def infer(self, name: str, inputs: Sequence[Tensor]) -> Mapping[str, TensorShape]:
        """One prediction with JSON tensors."""
        body = {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.data_type.value,
                    "shape": list(tensor.shape),
                    "data": list(tensor.data),
                }
                for tensor in inputs
            ]
        }
        answer = await self._post(f"/v2/models/{name}/infer", body)
        if answer.status_code != httpx.codes.OK:
            raise MeshError(
                Reason.WARMUP_FAILED,
                f"{name} loaded but failed its trial prediction: {_said(answer)}; "
                "register a version whose schema is the one that the model really has",
                metadata={"server": self._place.server_id},
            )
        return {
            str(output["name"]): TensorShape(str(output["datatype"]), tuple(int(size) for size in output["shape"]))
            for output in answer.json()["outputs"]
        }

    async def _post(self, path: str, body: object) -> httpx.Response:
        try:
            timeout = httpx.Timeout(_INFER_TIMEOUT_S, connect=_OBSERVE_TIMEOUT_S)
            return await self._client.post(path, json=body, timeout=timeout)
        except _AWAY as error:
            raise self._away(f"does not answer ({type(error).__name__})") from error
        except httpx.TimeoutException as error:
            raise self._away(f"took longer than {_INFER_TIMEOUT_S:g} s") from error

    @asynccontextmanager
    async def _repository(self) -> AsyncIterator["grpc_service_pb2_grpc.GRPCInferenceServiceAsyncStub"]:
        async with self._turn, grpc.aio.insecure_channel(self._place.grpc_address, options=_CHANNEL) as channel:
            yield grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def _check_away(self, error: grpc.aio.AioRpcError, timeout_s: float) -> None:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise self._away(f"took longer than {timeout_s:g} s") from error
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise self._away(f"does not answer ({error.details()})") from error

    def _away(self, what: str) -> MeshError:
        return MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the model server {self._place.server_id} at {self._place.http_address} {what}; "
            "it is tried again, see its log if that lasts",
            retry_after_s=1.0,
        )


def _said(answer: httpx.Response) -> str:
    """The server's own words."""
    try:
        text = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = answer.text
    return _own_words(text) or f"HTTP {answer.status_code}"


def _own_words(text: str) -> str:
    """Without the stack of file names that the server's Python adds."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("At:", "/"))] or lines
    return " ".join(kept)[:_MESSAGE_LENGTH_MAX]
