"""HTTP requests to places that callers name: no proxies, no redirects, and no address that may not be called."""

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

import httpcore

from services.common.delivery.outside import forbidden

_TIMEOUT_S = 10.0
_LIMITS = {"connect": _TIMEOUT_S, "read": _TIMEOUT_S, "write": _TIMEOUT_S, "pool": _TIMEOUT_S}


class ForbiddenAddressError(Exception):
    """A name means an address that may not be called."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back: the status, and how many seconds the receiver asks to wait."""

    status: int
    retry_after_s: float = 0.0


class Outward:
    """POSTs. A context: leaving it closes the connections."""

    def __init__(self, *, tls: ssl.SSLContext, private_allowed: bool) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=16,
            keepalive_expiry=0.0,
            network_backend=_Guarded(private_allowed=private_allowed),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes what is open."""
        await self._pool.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """What was answered; its body is not read, and a redirect is not followed. Raises ForbiddenAddressError,
        OSError, and httpcore's errors where there is no answer."""
        async with self._pool.stream(
            "POST", url, headers=list(headers.items()), content=body, extensions={"timeout": _LIMITS}
        ) as response:
            asked = {name.lower(): value for name, value in response.headers}.get(b"retry-after", b"")
            return Answered(response.status, float(asked) if asked.isdigit() else 0.0)


class _Guarded(httpcore.AsyncNetworkBackend):
    """Looks at the very address that is connected to. The name's certificate is checked as ever, by the pool."""

    def __init__(self, *, private_allowed: bool) -> None:
        self._plain = httpcore.AnyIOBackend()
        self._private_allowed = private_allowed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to an address that the name means, if none of them is forbidden."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            why = forbidden(ip_address(address.partition("%")[0]), private_allowed=self._private_allowed)
            if why:
                raise ForbiddenAddressError(f"{host} is {address}, which {why}")
        refused: Exception = OSError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refused = error
        raise refused

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002 - httpcore's own signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise ForbiddenAddressError(f"{path} is no address")

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await self._plain.sleep(seconds)
