"""The Envoy around this process, over its admin socket."""

import asyncio

_TIMEOUT_S = 1.0
_PATH = "/drain_listeners?graceful"


class EnvoyAdmin:
    """Talks to the admin interface at a Unix socket; an empty path: there is none, and nothing is said."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path

    async def drain(self) -> None:
        """Has Envoy tell callers to go elsewhere: GOAWAY on HTTP/2, `connection: close` on HTTP/1.1. Raises OSError or
        TimeoutError where it does not answer."""
        if not self._path:
            return
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(self._path)
            try:
                writer.write(f"POST {_PATH} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
                status = await reader.readline()
            finally:
                writer.close()
        if status.split()[1:2] != [b"200"]:
            raise OSError(f"Envoy answered {status!r}")
