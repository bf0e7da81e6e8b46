"""One way to call another service: a deadline on every call, identity handed on, errors rebuilt as `MeshError`.

The caller's identity is not handed on to methods that are between services only: there the service speaks for itself.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc.aio import ClientCallDetails, Metadata

from services.common.access.policy import rule_of
from services.common.errors import Code, MeshError, Reason
from services.common.grpc.identity import Identity, current_identity, identity_headers
from services.common.grpc.server import MESSAGE_MAX_BYTES
from services.common.grpc.status import STATUS_DETAILS_KEY, error_from_status
from services.common.grpc.tls import PeerTls, PublicTls
from services.common.telemetry.tracing import inject_context

DEADLINE_DEFAULT_S = 10.0
"""The deadline of a unary call that states none."""
DEADLINE_SHAVE_S = 0.02
"""Kept back from the caller's own deadline, so that a failing sub-call can still be reported."""

_KEY_HEADER = "authorization"
_Headers = tuple[tuple[str, str], ...]
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A service that restarts is back within a second: do not wait the default two minutes to look again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Retries are decided by who knows whether they are safe, not by the transport.
    ("grpc.enable_retries", 0),
)


def open_channel(
    address: str,
    *,
    deadline_s: float = DEADLINE_DEFAULT_S,
    tls: PeerTls | PublicTls | None = None,
    bearer: str = "",
) -> grpc.aio.Channel:
    """A channel to `address` (host:port), with TLS where `tls` is given. `bearer` is a key that every call shows, as
    callers of a gateway do; empty: none. Failed calls raise MeshError. Close it when done."""
    # Not as gRPC's call credentials: those are refused on connections without TLS.
    own = ((_KEY_HEADER, f"Bearer {bearer}"),) if bearer else ()
    interceptors = (_UnaryUnary(address, own, deadline_s), _UnaryStream(address, own), _StreamStream(address, own))
    if tls is not None:
        return grpc.aio.secure_channel(address, tls.for_channels(), options=_OPTIONS, interceptors=interceptors)
    return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=interceptors)


def error_from_rpc(error: grpc.aio.AioRpcError, address: str) -> MeshError:
    """The MeshError that a failed call stands for."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            return error_from_status(status_pb2.Status.FromString(value))
    code = Code(error.code().value[0])
    if code is Code.UNAVAILABLE:
        return MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the service at {address} does not answer ({error.details()}); see whether it runs and try again",
            retry_after_s=1.0,
        )
    return error_from_status(status_pb2.Status(code=int(code), message=error.details() or code.name))


def _details(details: ClientCallDetails, own: _Headers, *, deadline_s: float | None) -> ClientCallDetails:
    metadata = Metadata(*(details.metadata or ()))
    present = {key for key, _ in metadata}
    for key, value in (*own, *_identity_headers(_method(details))):
        if key not in present:
            metadata.add(key, value)
    trace_headers: dict[str, str] = {}
    inject_context(trace_headers)
    for key, value in trace_headers.items():
        if key not in present:
            metadata.add(key, value)
    timeout = details.timeout if details.timeout is not None else deadline_s
    return ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


def _identity_headers(method: str) -> list[tuple[str, str]]:
    identity = current_identity()
    if identity.role and rule_of(method).internal_only:
        identity = Identity(request_id=identity.request_id)
    return identity_headers(identity)


def _method(details: ClientCallDetails) -> str:
    # Bytes, whatever the stubs say.
    method: str | bytes = details.method
    return method.decode() if isinstance(method, bytes) else method


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, address: str, own: _Headers, deadline_s: float) -> None:
        self._address = address
        self._own = own
        self._deadline_s = deadline_s

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: ClientCallDetails, request: Any
    ) -> Any:
        call = await continuation(_details(client_call_details, self._own, deadline_s=self._deadline_s), request)
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, self._address) from error


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, address: str, own: _Headers) -> None:
        self._address = address
        self._own = own

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: ClientCallDetails, request: Any
    ) -> AsyncIterator[Any]:
        call = await continuation(_details(client_call_details, self._own, deadline_s=None), request)
        return _responses(call, self._address)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, address: str, own: _Headers) -> None:
        self._address = address
        self._own = own

    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: ClientCallDetails, request_iterator: Any
    ) -> AsyncIterator[Any]:
        call = await continuation(_details(client_call_details, self._own, deadline_s=None), request_iterator)
        return _responses(call, self._address)


async def _responses(call: Any, address: str) -> AsyncIterator[Any]:
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error, address) from error
    finally:
        call.cancel()
