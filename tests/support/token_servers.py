"""Servers behind TLS that let in whoever shows their token, and repeat in their refusals what they were shown."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from services.common.clock import SystemClock
from services.supervisor.certificates import Issued, LocalAuthority

PREFIX = "Bearer "


@dataclass
class TokenServer:
    """One that runs."""

    token: str
    """What it lets in."""
    authority: str = ""
    port: int = 0
    shown: list[str] = field(default_factory=list)
    """The authorization of each call; "" where there was none."""

    def refuses(self, authorization: str) -> str:
        """Why it does not let a call in; empty: it does."""
        self.shown.append(authorization)
        return "" if authorization == PREFIX + self.token else f"nobody is known by {authorization!r}"


@asynccontextmanager
async def token_server(folder: Path, *, over_grpc: bool, token: str) -> AsyncIterator[TokenServer]:
    """It has no model: whom it lets in hears that there is none, by 418 or OUT_OF_RANGE, which nothing else says."""
    issued = LocalAuthority(folder, now=SystemClock().now()).issue("server", hosts=("127.0.0.1",))
    made = TokenServer(token, str(issued.authority))
    async with _grpc(made, issued) if over_grpc else _http(made, issued):
        yield made


@asynccontextmanager
async def _grpc(made: TokenServer, issued: Issued) -> AsyncIterator[None]:
    async def answer(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        metadata = dict(context.invocation_metadata() or ())
        why = made.refuses(str(metadata.get("authorization", "")))
        code = grpc.StatusCode.UNAUTHENTICATED if why else grpc.StatusCode.OUT_OF_RANGE
        await context.abort(code, why or "let in")

    class Handlers(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(),))
    pair = (issued.private_key.read_bytes(), issued.certificate.read_bytes())
    made.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    yield
    await server.stop(None)


@asynccontextmanager
async def _http(made: TokenServer, issued: Issued) -> AsyncIterator[None]:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
                lengths = [int(value) for name, value in headers.items() if name.lower() == "content-length"]
                await reader.readexactly(sum(lengths))
                given = [value for name, value in headers.items() if name.lower() == "authorization"]
                assert len(given) <= 1
                why = made.refuses("".join(given))
                body = why.encode() or b"let in"
                status = b"401 Unauthorized" if why else b"418 I'm a teapot"
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.private_key)
    callback: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = converse
    server = await asyncio.start_server(callback, "127.0.0.1", 0, ssl=context)
    made.port = int(server.sockets[0].getsockname()[1])
    yield
    server.close()
