"""What the keeper needs of others: the gateway that has dialled, the router, the disk."""

from typing import Protocol

from services.gateway.domain.messages import Configuration, Request, Response


class Gateway(Protocol):
    """The stream of one gateway."""

    async def hear(self) -> Request | None:
        """What it says next; None once it has left."""
        ...

    async def say(self, response: Response) -> None:
        """Sends it this: as it came, byte for byte, where it did. May be called while another call is under way."""
        ...


class Line(Protocol):
    """A stream to the router on behalf of one gateway."""

    async def ask(self, request: Request, *, for_all: bool) -> None:
        """Sends what the gateway said: byte for byte, or, `for_all`, as if it had no version of this type. Does nothing
        where the router has ended the stream: `listen` tells."""
        ...

    async def listen(self) -> Response | None:
        """What the router says next; None once it has ended the stream or is gone."""
        ...

    def hang_up(self) -> None:
        """Ends the stream. May be called twice."""
        ...


class Router(Protocol):
    """The router."""

    async def dial(self) -> Line | None:
        """A new stream; None where the router cannot be reached within half a second or so."""
        ...

    async def reachable(self) -> None:
        """Returns once it can be reached."""
        ...


class Store(Protocol):
    """Configurations on disk, one a gateway. Blocking: call it in a thread."""

    def load(self, gateway: str) -> Configuration | None:
        """What was saved last; None where nothing was, or for another layout. Raises ARTIFACT_CORRUPT where it is
        damaged, OSError where it cannot be read."""
        ...

    def save(self, gateway: str, configuration: Configuration) -> int:
        """Replaces what was saved, whole or not at all, and durably. Returns the bytes. Raises OSError."""
        ...
