"""Serves gateways: by the router, and by what is kept where there is none.

A stream has one of two ends. While the router is there it is the router's: what the two say passes through unchanged,
and what the gateway took is kept. While it is not there, the gateway gets what is kept, if it has nothing; once the
router can be reached, the stream ends, so that the gateway dials again. It keeps its configuration meanwhile, and says
to the router which versions it has, so the router sends what differs: mostly nothing.
"""

import asyncio
from math import inf

from services.common.clock import Clock
from services.common.telemetry.logging import get_logger
from services.gateway.domain.messages import Request
from services.gateway.domain.stream import Stream
from services.gateway.engines.shelf import Shelf
from services.gateway.engines.tasks import first_of
from services.gateway.ports import Gateway, Line, Router

log = get_logger(__name__)


class Keeper:
    """Serves any number of streams."""

    def __init__(self, *, router: Router, shelf: Shelf, clock: Clock, patience_s: float) -> None:
        """`patience_s`: how long a router that can be reached may leave a gateway without what it asked for."""
        self._router = router
        self._shelf = shelf
        self._clock = clock
        self._patience_s = patience_s

    async def serve(self, gateway: Gateway) -> None:
        """Returns when the stream is to end. Raises QUOTA_EXCEEDED where there are too many gateways."""
        first = await gateway.hear()
        if first is None:
            return
        await self._shelf.open(first.node)
        line = await self._router.dial()
        session = _Session(gateway, first.node, line, shelf=self._shelf, clock=self._clock, patience_s=self._patience_s)
        try:
            await first_of(requests=session.hear(first), responses=self._answer(session))
        finally:
            session.hang_up()

    async def _answer(self, session: "_Session") -> None:
        """Returns when the stream is to end."""
        if not session.has_router:
            log.warning("the router cannot be reached", gateway=session.gateway_id, kept=session.kept_versions())
            await self._router.reachable()
            log.info("the router is back; the gateway is to dial it", gateway=session.gateway_id)
            return
        log.info("gateway connected to the router", gateway=session.gateway_id)
        await first_of(router=session.listen(), patience=session.fill_in())
        if session.router_spoke:
            log.warning("the router ended the stream", gateway=session.gateway_id)
            return
        # Something listens there, but it is no router, or one that is going. It is asked again after a while.
        log.warning("the router ends streams without a word", gateway=session.gateway_id, kept=session.kept_versions())
        await session.go_on_alone()
        await self._clock.sleep(self._patience_s)


class _Session:
    """One stream, and the router's end of it where there is one."""

    def __init__(
        self, gateway: Gateway, gateway_id: str, line: Line | None, *, shelf: Shelf, clock: Clock, patience_s: float
    ) -> None:
        self._gateway = gateway
        self._line = line
        self._shelf = shelf
        self._clock = clock
        self._patience_s = patience_s
        self._stream = Stream()
        self._waiting = asyncio.Event()
        self.gateway_id = gateway_id
        self.router_spoke = False

    @property
    def has_router(self) -> bool:
        """Whether there is a router at the other end."""
        return self._line is not None

    def kept_versions(self) -> dict[str, str]:
        """For the log: what is kept, by the short names of types."""
        types = self._shelf.of(self.gateway_id).types
        return {type_url.rpartition(".")[2]: kept.version for type_url, kept in types.items()}

    async def hear(self, first: Request) -> None:
        """Takes what the gateway says, until it leaves."""
        request: Request | None = first
        while request is not None:
            await self._take(request)
            request = await self._gateway.hear()

    async def listen(self) -> None:
        """Passes on what the router says, until it says no more."""
        while self._line is not None and (response := await self._line.listen()) is not None:
            self.router_spoke = True
            # First noted, then sent: the gateway may answer before the sending returns.
            self._stream.said(response)
            await self._gateway.say(response)

    async def fill_in(self) -> None:
        """Answers what the router leaves unanswered for too long. Returns never."""
        looked_s = -inf
        while True:
            asked_s = self._stream.waiting_since(after_s=looked_s)
            if asked_s is None:
                self._waiting.clear()
                await self._waiting.wait()
                continue
            # An Envoy that starts asks for one type after the other: each waits as long as the first, and no longer.
            await self._clock.sleep(max(0.0, asked_s + self._patience_s - self._clock.monotonic()))
            looked_s = asked_s
            if await self._say_kept(asked_by_s=asked_s):
                log.warning("the router does not answer; the gateway got what is kept", gateway=self.gateway_id)

    async def go_on_alone(self) -> None:
        """There is no router any more."""
        self.hang_up()
        await self._say_kept(asked_by_s=self._clock.monotonic())

    def hang_up(self) -> None:
        """Ends the router's end, where there is one."""
        if self._line is not None:
            self._line.hang_up()
            self._line = None

    async def _take(self, request: Request) -> None:
        now_s = self._clock.monotonic()
        heard = self._stream.heard(request, self._shelf.of(self.gateway_id), now_s=now_s)
        if heard.kept is not None:
            self._shelf.keep(self.gateway_id, heard.kept)
        if heard.refused:
            log.error(
                "a gateway refused what was kept for it; it waits for the router",
                gateway=self.gateway_id,
                resource=request.type_url.rpartition(".")[2],
                reason=heard.refused,
            )
        if self._line is None:
            await self._say_kept(asked_by_s=now_s)
            return
        await self._line.ask(request, for_all=heard.unknown)
        if self._stream.waiting:
            self._waiting.set()

    async def _say_kept(self, *, asked_by_s: float) -> bool:
        """Whether there was something to say."""
        lacking = self._stream.lacking(self._shelf.of(self.gateway_id), asked_by_s=asked_by_s)
        for response in lacking:
            await self._gateway.say(response)
        return bool(lacking)
