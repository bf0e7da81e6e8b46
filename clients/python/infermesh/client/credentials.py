"""What a client shows a gateway: its key with every call, and whom it trusts where the gateway speaks TLS."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc

KEY_VARIABLE = "INFERMESH_API_KEY"
"""The environment variable with the key."""
CA_VARIABLE = "INFERMESH_CA_FILE"
"""The environment variable with the path of certificates to trust, in PEM. Unset: those of the system."""
_HEADER = "authorization"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`api_key` is a key of the mesh or a user's token; empty: none is sent. `ca_file` holds certificates in PEM."""

    api_key: str = field(default="", repr=False)
    ca_file: Path | None = None

    @staticmethod
    def from_environment() -> "Credentials":
        """What INFERMESH_API_KEY and INFERMESH_CA_FILE say."""
        ca_file = os.environ.get(CA_VARIABLE, "")
        return Credentials(os.environ.get(KEY_VARIABLE, "").strip(), Path(ca_file) if ca_file else None)

    def open_channel(self, address: str, *, tls: bool, options: tuple[tuple[str, int], ...]) -> grpc.Channel:
        """A channel whose calls all carry the key. Raises ValueError where `ca_file` cannot be read, or where the key
        cannot be sent as a header."""
        if tls:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(self._roots()), options=options)
        else:
            channel = grpc.insecure_channel(address, options=options)
        if not self.api_key:
            return channel
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise ValueError("the API key holds characters that no key has; set it anew, without spaces or line breaks")
        return grpc.intercept_channel(channel, _KeyBearer(self.api_key))

    def _roots(self) -> bytes | None:
        if self.ca_file is None:
            return None
        try:
            return self.ca_file.read_bytes()
        except OSError as fault:
            raise ValueError(f"the certificates in {self.ca_file} cannot be read: {fault.strerror}") from None


class _CallDetails(NamedTuple):
    """A call that is about to be made, as gRPC describes it."""

    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _KeyBearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the key to every call. Not as gRPC's call credentials: those are refused on connections without TLS, and a
    mesh on loopback has none."""

    def __init__(self, api_key: str) -> None:
        self._header = (_HEADER, f"Bearer {api_key}")

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_key(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_key(details), request)

    def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(self._with_key(details), requests)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(self._with_key(details), requests)

    def _with_key(self, details: Any) -> _CallDetails:
        return _CallDetails(
            details.method,
            details.timeout,
            (*(details.metadata or ()), self._header),
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
