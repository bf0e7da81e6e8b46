"""Calls to external servers over HTTP and gRPC, with what goes wrong in the deployer's words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import httpx

from services.common.errors import MeshError, Reason
from services.common.outside_credentials import Credentials, NoCredentialError, without
from services.common.outside_tls import OutsideTls, tls_fault
from services.common.server_address import ServerAddress
from services.deployer.domain.trial import JsonScalar, Tensor

LOOK_TIMEOUT_S = 1.0
TRIAL_TIMEOUT_S = 30.0
_METADATA_TIMEOUT_S = 5.0
_WHY_TIMEOUT_S = 1.0
_WORDS_LENGTH_MAX = 1000
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _ANSWER_BYTES_MAX),
    ("grpc.max_send_message_length", _ANSWER_BYTES_MAX),
    # A server that is back is to be noticed at the next look, not after a pause that has grown for minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 400),
    ("grpc.max_reconnect_backoff_ms", 400),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
_NOT_ALLOWED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_CODES_NOT_ALLOWED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

Json = object
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Model:
    """What a server is asked for; empty texts leave it the choice."""

    name: str
    version: str = ""
    signature: str = ""

    def __str__(self) -> str:
        """For people."""
        return self.name + (f", version {self.version}" if self.version else "")


class BlockedError(MeshError):
    """A server may be there and is not asked: it is not believed to be the one that was meant, or there is no
    credential to show to it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is, and how to be sure of it."""

    address: str
    """host:port, behind https:// or grpcs:// where it is spoken to by TLS."""
    tls: OutsideTls = field(default_factory=OutsideTls)
    """Whose certificates are believed there."""
    credential: str = ""
    """What it is shown, by its name; empty: nothing."""
    credentials: Credentials = field(default_factory=Credentials)

    def bearer(self) -> str:
        """The token that it is shown; empty: none. Raises BlockedError where it cannot be had."""
        if not self.credential:
            return ""
        try:
            return self.credentials.bearer(self.credential, tls=ServerAddress.of(self.address).tls)
        except NoCredentialError as error:
            raise BlockedError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the server at {self.address} is not asked: {error}; it is tried again",
                retry_after_s=1.0,
            ) from None


class HttpSpeaker:
    """A server over HTTP. Close it when done."""

    def __init__(self, target: Target, model: Model) -> None:
        self.address = target.address
        self.model = model
        self._target = target
        self._shown = ""
        secured = ServerAddress.of(target.address).tls
        # One connection a call: a server that was killed leaves no stale connection to stumble over.
        self._client = httpx.AsyncClient(
            base_url=target.address if secured else f"http://{target.address}",
            trust_env=False,
            verify=target.tls.for_sockets,
            limits=httpx.Limits(max_keepalive_connections=0, max_connections=16),
        )

    async def close(self) -> None:
        """Closes what is open."""
        await self._client.aclose()

    async def look(self, method: str, path: str) -> httpx.Response:
        """A short question. Raises DEPENDENCY_UNAVAILABLE."""
        return await self._send(method, path, LOOK_TIMEOUT_S)

    async def metadata(self, path: str) -> Json:
        """What the server says of the model. Raises LOAD_FAILED where it has none, DEPENDENCY_UNAVAILABLE."""
        answer = await self._send("GET", path, _METADATA_TIMEOUT_S)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise away(self.address, f"answers {answer.status_code} ({self.said(answer)})")
        if answer.status_code in _NOT_ALLOWED:
            raise not_allowed(self.address, self.model, self.said(answer))
        if answer.status_code != httpx.codes.OK:
            raise not_there(self.address, self.model, self.said(answer))
        return read(answer, self.address)

    async def trial(self, path: str, body: Json) -> Json:
        """What a prediction comes back as. Raises WARMUP_FAILED, DEPENDENCY_UNAVAILABLE."""
        answer = await self._send("POST", path, TRIAL_TIMEOUT_S, body)
        if answer.status_code != httpx.codes.OK:
            raise trial_failed(self.address, self.model, self.said(answer))
        return read(answer, self.address)

    def said(self, answer: httpx.Response) -> str:
        """What the server says, in the field where servers say it, else the whole body."""
        try:
            body = answer.json()
            text = next((str(body[key]) for key in ("error", "message", "detail") if key in body), answer.text)
        except (ValueError, TypeError, AttributeError):
            text = answer.text
        return " ".join(without(self._shown, text).split())[:_WORDS_LENGTH_MAX] or f"HTTP {answer.status_code}"

    async def _send(self, method: str, path: str, timeout_s: float, body: Json = None) -> httpx.Response:
        bearer = self._shown = self._target.bearer()
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            timeout = httpx.Timeout(timeout_s, connect=LOOK_TIMEOUT_S)
            return await self._client.request(method, path, json=body, timeout=timeout, headers=headers)
        except httpx.TimeoutException as error:
            raise away(self.address, f"did not answer within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise no_answer(self.address, str(error), type(error).__name__) from error


class GrpcSpeaker:
    """A server over gRPC. Close it when done."""

    def __init__(self, target: Target, model: Model) -> None:
        self.address = target.address
        self.model = model
        self._target = target
        self._shown = ""
        at = ServerAddress.of(target.address)
        self._secured = at.tls
        self.channel = (
            grpc.aio.secure_channel(at.host_port, target.tls.for_channels(), options=_OPTIONS)
            if at.tls
            else grpc.aio.insecure_channel(at.host_port, options=_OPTIONS)
        )

    async def close(self) -> None:
        """Closes the connection."""
        await self.channel.close()

    def shown(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call. Raises BlockedError."""
        bearer = self._shown = self._target.bearer()
        return (("authorization", f"Bearer {bearer}"),) if bearer else ()

    async def look(self, call: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q) -> A:
        """A short question, which waits for a connection: a server that is back is noticed. Raises AioRpcError."""
        try:
            return await call(request, timeout=LOOK_TIMEOUT_S, wait_for_ready=True, metadata=self.shown())
        except grpc.aio.AioRpcError as error:
            if not self._secured or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        # Whoever waits for a connection is not told why there is none.
        return await call(request, timeout=_WHY_TIMEOUT_S, metadata=self.shown())

    def looked(self, error: grpc.aio.AioRpcError) -> None:
        """What a short question failed by: raises DEPENDENCY_UNAVAILABLE unless the server has answered it."""
        if error.code() in _AWAY:
            raise no_answer(self.address, self.words(error), self.words(error)) from error

    def no_metadata(self, error: grpc.aio.AioRpcError) -> MeshError:
        """The error of a question about the model."""
        if error.code() in _AWAY:
            return no_answer(self.address, self.words(error), self.words(error))
        if error.code() in _CODES_NOT_ALLOWED:
            return not_allowed(self.address, self.model, self.words(error))
        return not_there(self.address, self.model, self.words(error))

    def no_prediction(self, error: grpc.aio.AioRpcError) -> MeshError:
        """The error of a prediction."""
        if error.code() in _AWAY:
            return no_answer(self.address, self.words(error), self.words(error))
        return trial_failed(self.address, self.model, self.words(error))

    def words(self, error: grpc.aio.AioRpcError) -> str:
        """What the server says."""
        return " ".join(without(self._shown, error.details() or error.code().name).split())[:_WORDS_LENGTH_MAX]


def away(address: str, what: str) -> MeshError:
    """It cannot be reached, for now."""
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the server at {address} {what}; it is tried again, see whether it runs and can be reached from here",
        retry_after_s=1.0,
    )


def no_answer(address: str, said: str, shown: str) -> MeshError:
    """No call came through: a BlockedError where TLS is the reason by what the library `said`. `shown`: what people
    are told of any other."""
    fault = tls_fault(said) if ServerAddress.of(address).tls else ""
    if not fault:
        return away(address, f"does not answer ({shown})")
    return BlockedError(
        Reason.DEPENDENCY_UNAVAILABLE, f"the server at {address} {fault}; it is tried again", retry_after_s=1.0
    )


def not_there(address: str, model: Model, why: str) -> MeshError:
    """It answers, and does not have the model."""
    return MeshError(
        Reason.LOAD_FAILED,
        f"the server at {address} says nothing of a model {model}: {why}; name one that it has (server_model_name, "
        "server_model_version), or see whether the protocol is the one that it speaks",
        metadata={"server": address},
    )


def not_allowed(address: str, model: Model, why: str) -> MeshError:
    """It answers, and not to us."""
    return MeshError(
        Reason.LOAD_FAILED,
        f"the server at {address} does not let the mesh ask for a model {model}: {why}; name a token that it takes in "
        "external_backend.credentials, which an operator of the mesh keeps for your team",
        metadata={"server": address},
    )


def trial_failed(address: str, model: Model, why: str) -> MeshError:
    """It has the model, and that does not answer as it should."""
    return MeshError(
        Reason.WARMUP_FAILED,
        f"the model {model} at {address} failed its trial prediction: {why}; see whether the schema is the one that it "
        "really has",
        metadata={"server": address},
    )


def nested(tensor: Tensor) -> list[Json]:
    """A tensor's elements as lists within lists, one for each dimension."""
    values: list[Json] = list(tensor.data)
    for size in reversed(tensor.shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values


def shape_of(values: Json) -> tuple[int, ...]:
    """The shape of lists within lists, by the first element of each; () for what is none."""
    shape: list[int] = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return tuple(shape)


def scalars(data: Sequence[JsonScalar]) -> list[bytes]:
    """The elements of BYTES."""
    return [value.encode() if isinstance(value, str) else str(value).encode() for value in data]


def mapping(value: Json, what: str, address: str) -> Mapping[str, Json]:
    """The value, which must be an object. Raises LOAD_FAILED."""
    if not isinstance(value, dict):
        raise MeshError(
            Reason.LOAD_FAILED,
            f"the server at {address} answers with {what} that cannot be read; see whether the "
            "protocol is the one that it speaks",
            metadata={"server": address},
        )
    return value


def read(answer: httpx.Response, address: str) -> Json:
    """The answer as JSON. Raises LOAD_FAILED."""
    try:
        document: Json = answer.json()
    except ValueError:
        raise MeshError(
            Reason.LOAD_FAILED,
            f"the server at {address} answers with what is no JSON; see whether the protocol is the one that it speaks",
            metadata={"server": address},
        ) from None
    return document
