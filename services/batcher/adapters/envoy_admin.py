"""The Envoy around this process, over its admin interface."""

import asyncio

_TIMEOUT_S = 1.0
_PATH = "/drain_listeners?graceful"


class EnvoyAdmin:
    """Talks to the admin interface at a Unix socket's path or at host:port. Empty: there is none, nothing is said."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def drain(self) -> None:
        """Has Envoy tell callers to go elsewhere: GOAWAY on HTTP/2, `connection: close` on HTTP/1.1. Raises OSError or
        TimeoutError where it does not answer."""
        if not self._address:
            return
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await self._open()
            try:
                writer.write(f"POST {_PATH} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
                status = await reader.readline()
            finally:
                writer.close()
        if status.split()[1:2] != [b"200"]:
            raise OSError(f"Envoy answered {status!r}")

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if "/" in self._address:
            return await asyncio.open_unix_connection(self._address)
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host, int(port))
