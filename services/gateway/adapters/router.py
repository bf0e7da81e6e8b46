"""The router, over one connection that is always kept or sought: so that a gateway that dials need not wait to learn
whether it is there, and those that were served without it learn at once when it is."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from services.common.telemetry.logging import get_logger
from services.gateway.convert import response_from, without_version
from services.gateway.domain.messages import Request, Response
from services.gateway.limits import ADS_METHOD, CHANNEL_OPTIONS

if TYPE_CHECKING:  # generic in its stub alone
    Call: TypeAlias = grpc.aio.StreamStreamCall[bytes, bytes]
    Open: TypeAlias = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
else:
    Call = grpc.aio.StreamStreamCall
    Open = grpc.aio.StreamStreamMultiCallable

log = get_logger(__name__)


class GrpcRouter:
    """The router at an address. `run` seeks it; without it nothing is ever found."""

    def __init__(
        self, address: str, *, connect_timeout_s: float, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """`credentials`: for a router that asks for them."""
        self._address = address
        self._connect_timeout_s = connect_timeout_s
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self._open: Open = self._channel.stream_stream(ADS_METHOD)
        self._there = asyncio.Event()
        self._known = asyncio.Event()
        """Whether it is there or not is known: no attempt to connect is the first since it was."""

    async def run(self) -> None:
        """Keeps or seeks the connection, for as long as the process lives."""
        while True:
            state = self._channel.get_state(try_to_connect=True)
            _set(self._there, to=state is grpc.ChannelConnectivity.READY)
            _set(self._known, to=state in {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE})
            await self._channel.wait_for_state_change(state)

    async def dial(self) -> "GrpcLine | None":
        """A new stream; None where there is no connection in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._connect_timeout_s):
                await self._known.wait()
        return GrpcLine(self._open()) if self._there.is_set() else None

    async def reachable(self) -> None:
        """Returns once there is a connection."""
        await self._there.wait()

    async def close(self) -> None:
        """Ends everything."""
        await self._channel.close()


class GrpcLine:
    """One stream to the router."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def ask(self, request: Request, *, for_all: bool) -> None:
        """Sends a request; does nothing where the stream has ended."""
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.write(without_version(request) if for_all else request.body)

    async def listen(self) -> Response | None:
        """The next response; None once the stream has ended or brings what nobody understands."""
        try:
            body = await self._call.read()
            return response_from(body) if isinstance(body, bytes) else None  # the end of the stream is no bytes
        except grpc.RpcError as error:
            log.debug("the stream to the router ended", reason=str(error))
        except DecodeError as error:
            log.warning("the router sent what is no response of xDS", reason=str(error))
        return None

    def hang_up(self) -> None:
        """Ends the stream."""
        self._call.cancel()


def _set(event: asyncio.Event, *, to: bool) -> None:
    if to:
        event.set()
    else:
        event.clear()
