"""How the client reaches the gateway: one channel, a deadline on every call, failures as `InfermeshError`."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import grpc
from infermesh.client.credentials import Credentials
from infermesh.client.errors import error_from_rpc, unreachable

MESSAGE_MAX_BYTES = 12 * 1024 * 1024
"""Requests of 10 MB are part of the contract; the rest is room for framing."""
TIMEOUT_DEFAULT_S = 30.0
"""The deadline of a call that states none."""
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    # A gateway that restarts is back within seconds: do not wait two minutes to look again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The gateway retries what is safe to retry; a second layer of retries would multiply the load of an outage.
    ("grpc.enable_retries", 0),
)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")


class Page(Protocol):
    """An answer to a List call."""

    @property
    def next_page_token(self) -> str:
        """Where to go on; empty on the last page."""


PageT = TypeVar("PageT", bound=Page)
Metadata = tuple[tuple[str, str], ...]


class Transport:
    """A channel to one gateway, with TLS where the address begins with https://. Safe to use from many threads.

    `credentials` are by default what the environment says.
    """

    def __init__(
        self, address: str, *, timeout_s: float = TIMEOUT_DEFAULT_S, credentials: Credentials | None = None
    ) -> None:
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}; it must be more than 0 seconds")
        self.address = plain_address(address)
        self.timeout_s = timeout_s
        shown = credentials if credentials is not None else Credentials.from_environment()
        self.channel = shown.open_channel(self.address, tls=wants_tls(address), options=CHANNEL_OPTIONS)

    def call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        *,
        timeout_s: float | None = None,
        metadata: Metadata = (),
    ) -> ResponseT:
        """One call. Raises InfermeshError; never waits longer than `timeout_s` (default: the client's)."""
        allowed_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            return method(request, timeout=allowed_s, metadata=metadata or None)
        except grpc.RpcError as error:
            raise error_from_rpc(error, address=self.address, timeout_s=allowed_s) from error

    def stream(
        self,
        method: "grpc.UnaryStreamMultiCallable[RequestT, ResponseT]",
        request: RequestT,
        *,
        timeout_s: float,
        metadata: Metadata = (),
    ) -> Iterator[ResponseT]:
        """The answers of one streaming call, over within `timeout_s`. Raises InfermeshError; close it to cancel."""
        call = method(request, timeout=timeout_s, metadata=metadata or None)
        try:
            yield from call
        except grpc.RpcError as error:
            raise error_from_rpc(error, address=self.address, timeout_s=timeout_s) from error
        finally:
            call.cancel()

    def send(
        self,
        method: "grpc.StreamUnaryMultiCallable[RequestT, ResponseT]",
        requests: Iterator[RequestT],
        *,
        timeout_s: float,
        metadata: Metadata = (),
    ) -> ResponseT:
        """The answer to a stream of requests, over within `timeout_s`. Raises InfermeshError, or what `requests` did.

        Requests are made in another thread, as fast as the other side takes them.
        """
        raised: list[Exception] = []
        begun = threading.Event()

        def kept() -> Iterator[RequestT]:
            # gRPC would log what an iterator raises, and tell the caller no more than that the call was cancelled.
            begun.wait()
            try:
                yield from requests
            except Exception as error:
                raised.append(error)
                call.cancel()

        call = method.future(kept(), timeout=timeout_s, metadata=metadata or None)
        begun.set()
        try:
            return call.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if raised:
                raise raised[0] from None
            if isinstance(error, grpc.FutureCancelledError):
                raise
            raise error_from_rpc(error, address=self.address, timeout_s=timeout_s) from error

    def wait_until_connected(self, timeout_s: float) -> None:
        """Returns once the gateway accepts connections. Raises GATEWAY_UNREACHABLE after `timeout_s` seconds."""
        try:
            grpc.channel_ready_future(self.channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError:
            raise unreachable(self.address) from None

    def close(self) -> None:
        """Ends the channel and the calls that still run on it."""
        self.channel.close()


def all_pages(
    fetch: Callable[[str], PageT], items: Callable[[PageT], Iterable[ItemT]], *, limit: int | None = None
) -> Iterator[ItemT]:
    """The items of all pages, a page at a time as they are consumed, at most `limit`. `fetch` takes the page token."""
    token, given = "", 0
    while True:
        page = fetch(token)
        for item in items(page):
            if limit is not None and given >= limit:
                return
            given += 1
            yield item
        token = page.next_page_token
        if not token:
            return


class Pacer:
    """The pauses between looks at something that cannot be watched, growing to `most_s`, over after `timeout_s`."""

    def __init__(
        self,
        *,
        timeout_s: float,
        first_s: float = 0.1,
        most_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._deadline = monotonic() + timeout_s
        self._pause_s = first_s
        self._most_s = most_s

    def pause(self) -> bool:
        """Pauses, never past the deadline. False: the deadline was reached before, so there is nothing to wait for."""
        left_s = self._deadline - self._monotonic()
        if left_s <= 0:
            return False
        self._sleep(min(self._pause_s, left_s))
        self._pause_s = min(self._pause_s * 1.5, self._most_s)
        return True


def plain_address(address: str) -> str:
    """host:port out of what people paste: a URL's scheme and last slash are taken off; without a port it is 8080."""
    plain = address.strip().removeprefix("http://").removeprefix("https://").removeprefix("dns:///").rstrip("/")
    if not plain or "/" in plain:
        raise ValueError(
            f"the gateway address is {address!r}; it must be host:port, for instance 127.0.0.1:8080, with https:// in "
            "front where the gateway speaks TLS"
        )
    return plain if ":" in plain else f"{plain}:8080"


def wants_tls(address: str) -> bool:
    """Whether an address is one to speak TLS with."""
    return address.strip().startswith("https://")


def new_request_id() -> str:
    """An id that makes a create safe to repeat: the same id again is the same creation."""
    return f"req_{uuid.uuid4().hex}"
