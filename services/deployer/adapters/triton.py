"""A Triton server over its HTTP endpoint: repository API, trial predictions."""

from collections.abc import Mapping, Sequence

import httpx

from services.common.errors import MeshError, Reason
from services.deployer.domain.catalog import Place
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import Tensor, TensorShape

_OBSERVE_TIMEOUT_S = 1.0
_INFER_TIMEOUT_S = 30.0
_UNLOAD_TIMEOUT_S = 10.0
_MESSAGE_LENGTH_MAX = 2000
_AWAY = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.CloseError)


class TritonServer:
    """A `ModelServer`. Close it when done."""

    def __init__(self, place: Place, *, load_timeout_s: float) -> None:
        self._place = place
        self._load_timeout_s = load_timeout_s
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
        """Loads a model and waits for it. What the model's own code raises is in the error."""
        answer = await self._call(f"/v2/repository/models/{name}/load", timeout_s=self._load_timeout_s)
        if answer.status_code != httpx.codes.OK:
            raise MeshError(
                Reason.LOAD_FAILED,
                f"the model server {self._place.server_id} refused to load {name}: {_said(answer)}; "
                "register a version with a sound artifact, or restart the deployment once the cause is mended",
                metadata={"server": self._place.server_id},
            )

    async def unload(self, name: str) -> None:
        """Unloads a model; one that is not there is no error."""
        answer = await self._call(f"/v2/repository/models/{name}/unload", timeout_s=_UNLOAD_TIMEOUT_S)
        if answer.status_code not in (httpx.codes.OK, httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST):
            raise self._away(f"answers {answer.status_code} to the unloading of {name}")

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
        answer = await self._call(f"/v2/models/{name}/infer", body=body, timeout_s=_INFER_TIMEOUT_S)
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

    async def _call(self, path: str, *, timeout_s: float, body: object = None) -> httpx.Response:
        try:
            timeout = httpx.Timeout(timeout_s, connect=_OBSERVE_TIMEOUT_S)
            return await self._client.post(path, json=body if body is not None else {}, timeout=timeout)
        except _AWAY as error:
            raise self._away(f"does not answer ({type(error).__name__})") from error
        except httpx.TimeoutException as error:
            raise self._away(f"took longer than {timeout_s:g} s") from error

    def _away(self, what: str) -> MeshError:
        return MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the model server {self._place.server_id} at {self._place.http_address} {what}; "
            "it is tried again, see its log if that lasts",
            retry_after_s=1.0,
        )


def _said(answer: httpx.Response) -> str:
    """The server's own words, without the stack of file names that its Python adds."""
    try:
        text = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = answer.text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("At:", "/"))] or lines
    return " ".join(kept)[:_MESSAGE_LENGTH_MAX] or f"HTTP {answer.status_code}"
