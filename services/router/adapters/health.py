"""Asking other services how they are: gRPC health, and a batcher's `/ready`."""

import asyncio
import ssl
from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2

from services.common.errors import MeshError
from services.router.domain.health import Health

_DEADLINE_S = 5.0


class GrpcHealthSource:
    """A `HealthSource` that speaks gRPC health."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

    async def ask(self, service: str) -> Health:
        """What it says of the service of that name."""
        try:
            answer = await self._check(health_pb2.HealthCheckRequest(service=service), timeout=_DEADLINE_S)
        except MeshError as error:
            # The health service is not ours: its errors have a code and no reason.
            cause = error.__cause__
            unheard_of = isinstance(cause, grpc.aio.AioRpcError) and cause.code() is grpc.StatusCode.NOT_FOUND
            return Health.UNKNOWN_SERVICE if unheard_of else Health.NOT_SERVING
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return Health.SERVING
        unknown = answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        return Health.UNKNOWN_SERVICE if unknown else Health.NOT_SERVING


class ReadyPathHealthSource:
    """A `HealthSource` over the batchers, host:port each, that there are when it is asked: serving where GET /ready of
    at least one answers 200."""

    def __init__(self, addresses: Callable[[], Sequence[str]], *, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: how to speak TLS with them; None: without."""
        self._addresses = addresses
        self._tls = tls

    async def ask(self, service: str) -> Health:  # noqa: ARG002 - a batcher is ready for all its services or for none
        """Whether one is ready."""
        asked = [
            asyncio.create_task(_ready(address, self._tls), name=f"router:ready {address}")
            for address in self._addresses()
        ]
        try:
            # The first good word decides: others may be dead, and hosts that are gone take long to say nothing.
            for answer in asyncio.as_completed(asked):
                if await answer:
                    return Health.SERVING
            return Health.NOT_SERVING
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


def of_whoever_it_is() -> ssl.SSLContext:
    """For a gateway's own port: its certificate is for callers, by whatever authority and for whatever name they know
    it. Nothing is sent there that strangers may not see."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _ready(address: str, tls: ssl.SSLContext | None) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_DEADLINE_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=tls)
            try:
                writer.write(f"GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):  # what TLS refuses is an OSError as well
        return False
    return status_line.split()[1:2] == [b"200"]
