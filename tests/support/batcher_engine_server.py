"""A small real model server over TCP, which answers as a test tells it, and a receiver that awaits what it is told."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import orjson

from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape, InputShape
from services.common.schema import DataType, TensorSpec
from tests.support.parts import free_port
from tests.support.waiting import eventually

BACKEND = Backend("s", "", "", "m")
SHAPE = CallShape("m", "v1", (InputShape("x", DataType.INT64, (), 8),), (TensorSpec("y", DataType.INT64),), ())
Behaviour = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(data: bytes, *extra: bytes) -> bytes:
    """A whole, proper answer that gives back what came in."""
    meta = orjson.dumps(
        {
            "outputs": [
                {
                    "name": "y",
                    "datatype": "INT64",
                    "shape": [len(data) // 8],
                    "parameters": {"binary_data_size": len(data)},
                }
            ]
        }
    )
    lines = [
        b"HTTP/1.1 200 OK",
        b"Inference-Header-Content-Length: %d" % len(meta),
        b"Content-Length: %d" % (len(meta) + len(data)),
        *extra,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + meta + data


class Server:
    """Reads requests and lets `behave` answer each."""

    def __init__(self) -> None:
        self.port = free_port()
        self.behave: Behaviour = self.properly
        self.connections = 0
        self.requests = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def properly(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(data))

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self.hang_up()
            await self._server.wait_closed()
            self._server = None

    async def hang_up(self) -> None:
        """Closes every connection."""
        for writer in list(self._writers):
            writer.transport.abort()
        await eventually(lambda: not self._writers, what="connections are closed")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                lengths = {
                    line.split(b":")[0]: int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"-Length" in line
                }
                body = await reader.readexactly(lengths[b"Content-Length"])
                self.requests += 1
                await self.behave(body[lengths[b"Inference-Header-Content-Length"] :], writer)
        writer.transport.abort()
        self._writers.discard(writer)


class Got:
    """A receiver that awaits what it is told, and fails where it is told twice."""

    traceparent = b""

    def __init__(self) -> None:
        self.future: asyncio.Future[Sequence[Tensor] | BackendFailure] = asyncio.get_running_loop().create_future()

    def answered(self, outputs: Sequence[Tensor]) -> None:
        self.future.set_result(outputs)

    def failed(self, failure: BackendFailure) -> None:
        self.future.set_result(failure)
