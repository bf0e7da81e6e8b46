"""What gateways dial: Envoy's ADS, whose messages are handed on as they are."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.gateway.convert import request_from, response_bytes
from services.gateway.domain.messages import Request, Response
from services.gateway.engines.keeper import Keeper
from services.gateway.limits import ADS_NAME, ADS_SERVICE

if TYPE_CHECKING:  # generic in its stub alone
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
else:
    Context = grpc.aio.ServicerContext

log = get_logger(__name__)


def add_ads(server: grpc.aio.Server, keeper: Keeper) -> None:
    """Adds ADS to a server."""

    async def serve(requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            await keeper.serve(_Gateway(requests, context))
        except MeshError as error:
            log.warning("a gateway is not served", reason=error.message)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"this is no request of xDS: {error}")

    # Without serialisers: bytes in, bytes out.
    handlers: dict[str, Any] = {ADS_NAME: grpc.stream_stream_rpc_method_handler(serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ADS_SERVICE, handlers),))


class _Gateway:
    """The stream of one gateway."""

    def __init__(self, requests: AsyncIterator[bytes], context: Context) -> None:
        self._requests = requests
        self._context = context
        self._saying = asyncio.Lock()

    async def hear(self) -> Request | None:
        """What it says next. Raises DecodeError where that is no request."""
        body = await anext(self._requests, None)
        return None if body is None else request_from(body)

    async def say(self, response: Response) -> None:
        """Sends it what the router said, or what was kept."""
        async with self._saying:
            await self._context.write(response.body or response_bytes(response))
