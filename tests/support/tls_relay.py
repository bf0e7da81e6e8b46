"""A server's TLS as operators put it before one that has none: it takes connections with a certificate, and hands what
comes in them to the server as it is. What speaks gRPC and what speaks HTTP/1.1 agree on that by ALPN."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.clock import SystemClock
from services.supervisor.certificates import LocalAuthority

_PIECE_BYTES = 65_536


class TlsRelay:
    """One in front of `to_port` of this machine, in a thread of its own: `port`, and the file of its `authority`."""

    def __init__(self, folder: Path, to_port: int, *, hosts: tuple[str, ...]) -> None:
        issued = LocalAuthority(folder, now=SystemClock().now()).issue("relay", hosts=hosts)
        self.authority = str(issued.authority)
        self.port = 0
        self.heads: list[bytes] = []
        """What each connection began with, if anything came in it."""
        self._to_port = to_port
        self._ends: set[asyncio.StreamWriter] = set()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(issued.certificate, issued.private_key)
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="TLS relay")

    def start(self) -> None:
        """Listens."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=self._context), self._loop
        ).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def end(self) -> None:
        """Ends every connection, and takes no more."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)

    def stop(self) -> None:
        """Ends for good."""
        self.end()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.close()
            return
        self._ends |= {writer, back}
        await asyncio.gather(self._pass_on(reader, back, self.heads), self._pass_on(there, writer, []))
        self._ends -= {writer, back}

    async def _end(self) -> None:
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heads: list[bytes]) -> None:
        try:
            piece = await reader.read(_PIECE_BYTES)
            heads += [piece] if piece else []
            while piece:
                writer.write(piece)
                await writer.drain()
                piece = await reader.read(_PIECE_BYTES)
        except OSError:
            pass
        finally:
            writer.close()


@contextmanager
def tls_relay(folder: Path, to_port: int, *, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Iterator[TlsRelay]:
    """One that runs, with a certificate for `hosts` by an authority of its own in `folder`."""
    made = TlsRelay(folder, to_port, hosts=hosts)
    made.start()
    try:
        yield made
    finally:
        made.stop()
