"""Readiness probes over the protocols that parts speak. A probe that cannot connect says no; it never waits long."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
from grpc_health.v1 import health_pb2

_PROBE_TIMEOUT_S = 1.0


def http_ready(host: str, port: int, path: str) -> Callable[[], Awaitable[bool]]:
    """Ready when GET `path` answers 200."""

    async def probe() -> bool:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                status_line = await reader.readline()
            finally:
                writer.close()
        return status_line.split()[1:2] == [b"200"]

    return probe


def grpc_ready(host: str, port: int) -> Callable[[], Awaitable[bool]]:
    """Ready when the gRPC health service says SERVING for the whole server."""

    async def probe() -> bool:
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
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
