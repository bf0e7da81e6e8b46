"""Readiness probes over the protocols that parts speak. A probe that cannot connect says no; it never waits long."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
from grpc_health.v1 import health_pb2

from services.common.grpc.tls import PeerTls

_PROBE_TIMEOUT_S = 1.0


def http_ready(host: str, port: int, path: str, *, tls: PeerTls | None = None) -> Callable[[], Awaitable[bool]]:
    """Ready when GET `path` answers 200; over TLS with `tls`."""
    context = tls.for_sockets() if tls is not None else None

    async def probe() -> bool:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                status_line = await reader.readline()
            finally:
                writer.close()
        return status_line.split()[1:2] == [b"200"]

    return probe


def grpc_ready(host: str, port: int, *, tls: PeerTls | None = None) -> Callable[[], Awaitable[bool]]:
    """Ready when the gRPC health service says SERVING for the whole server; over TLS with `tls`."""

    async def probe() -> bool:
        async with plain_channel(f"{host}:{port}", tls) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer = await check(health_pb2.HealthCheckRequest(), timeout=_PROBE_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return probe


def plain_channel(address: str, tls: PeerTls | None) -> grpc.aio.Channel:
    """A channel to `address` (host:port) whose errors are gRPC's own."""
    if tls is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, tls.for_channels())


def line_ready(host: str, port: int, *, send: bytes, expect: bytes) -> Callable[[], Awaitable[bool]]:
    """Ready when the bytes `send` are answered by a line that begins with `expect`."""

    async def probe() -> bool:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(send)
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
        return line.startswith(expect)

    return probe
