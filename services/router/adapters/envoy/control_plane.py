"""Tells every connected Envoy what to do, and knows which of them do it.

Until `publish` is first called nobody is told of routes: a router that has not yet restored its rules must not take
them away from Envoys that have them. The same holds for `admit`, by which Envoys know their callers: until it is called
none that starts anew listens, and none that serves changes whom it lets in. All else is told at once: a gateway that
carries a batcher starts it when it has its listener, and what is published first waits for that batcher. What is
published is a value; each stream compares it with what its Envoy has and sends the difference, so a publication is
never queued and a slow Envoy gets the latest alone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from meshxds.envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from services.common.grpc.server import Service
from services.common.telemetry.logging import get_logger
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.adapters.envoy.resources import EXTENSIONS, ROUTES, ResourceSet
from services.router.adapters.envoy.snapshots import SnapshotBuilder
from services.router.adapters.envoy.subscriptions import Refusal, Subscriptions
from services.router.domain.access import Callers
from services.router.domain.routing import GatewayState, RoutingTable

if TYPE_CHECKING:  # generic in its stub alone
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
else:
    Context = grpc.aio.ServicerContext

log = get_logger(__name__)

SERVICE_NAME = "envoy.service.discovery.v3.AggregatedDiscoveryService"
ACKNOWLEDGED_WITHIN_S = 2.0
"""How long a publication waits for Envoys. One that takes longer gets it all the same."""


class EnvoyControlPlane:
    """The `Gateways` of the router, over Envoy's ADS. Add `service` to the router's server."""

    def __init__(self, options: EnvoyOptions) -> None:
        self._builder = SnapshotBuilder(options)
        self._foundation = self._builder.foundation(options.batchers)
        self._routes: ResourceSet | None = None
        self._extensions: ResourceSet | None = None
        self._streams: list[_Stream] = []
        self._progress = asyncio.Event()
        self._closing = False

    @property
    def service(self) -> Service:
        """The gRPC service that Envoys dial, as `add_grpc_server` takes it."""
        servicer = _AdsServicer(self)
        return (
            # The stubs of services are generated without types.
            lambda server: ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(  # type: ignore[no-untyped-call]
                servicer, server
            ),
            SERVICE_NAME,
        )

    async def publish(self, table: RoutingTable) -> None:
        """Makes `table` what every Envoy routes by, also those that connect later.

        Returns once every Envoy that is connected has taken or refused it, or 2 s have passed; at once where none is.
        """
        # Thousands of new models take some hundred milliseconds: other calls go on meanwhile.
        routes = await asyncio.to_thread(self._builder.routes, table)
        self._routes = routes
        self._wake()
        late = await self._until_answered(routes.version)
        log.info(
            "routes published",
            revision=table.revision,
            models=len(table.models),
            gateways=len(self._streams),
            late=late,
        )

    async def admit(self, callers: Callers) -> None:
        """Makes these the callers that every Envoy lets in, also those that connect later. What
        they take is in force a moment later; `admitted` waits for that."""
        # Ten thousand revoked keys take some hundredths of a second.
        self._extensions = await asyncio.to_thread(self._builder.extensions, callers)
        self._wake()

    @property
    def admission_version(self) -> str:
        """Of what Envoys are told of their callers; empty: nothing yet."""
        return self._extensions.version if self._extensions is not None else ""

    async def admitted(self) -> Sequence[str]:
        """Returns once every Envoy that is connected has taken or refused whom to let in, or 2 s have passed. Names
        those that took too long."""
        known = self._extensions
        return await self._until_answered(known.version, EXTENSIONS) if known is not None else []

    def replace_batchers(self, addresses: Sequence[str]) -> None:
        """Makes these the batchers that Envoys send to. Raises INVALID_FIELD where an address is not host:port or there
        is none."""
        self._foundation = self._builder.foundation(addresses)
        self._wake()

    def connected(self) -> Sequence[GatewayState]:
        """Every Envoy that is connected now, by name."""
        # An Envoy that dials anew may be here twice for a moment: the newer stream is the true one.
        states = {stream.state.gateway_id: stream.state for stream in self._streams if stream.state.gateway_id}
        return [
            GatewayState(name, acknowledged_revision=state.revision, error_message=state.error_message)
            for name, state in sorted(states.items())
        ]

    async def close(self) -> None:
        """Ends all streams, so that the server need not wait for them. Envoys keep what they have and dial again."""
        self._closing = True
        self._wake()

    @contextlib.asynccontextmanager
    async def serve_stream(self) -> AsyncIterator["_Stream"]:
        """A stream that takes part in publications while the context lasts."""
        stream = _Stream(self)
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._streams.remove(stream)
            self._progress.set()

    def due(self, state: Subscriptions) -> Sequence[discovery_pb2.DiscoveryResponse]:
        """What an Envoy in this state is to be sent now."""
        later = {ROUTES: self._routes, EXTENSIONS: self._extensions}
        known = {type_url: resources for type_url, resources in later.items() if resources is not None}
        return list(state.due({**self._foundation, **known}))

    def heard(self, state: Subscriptions, refusal: Refusal | None) -> None:
        """An Envoy answered."""
        if refusal is not None:
            log.error(
                "a gateway refused its configuration and goes on with the one before",
                gateway=state.gateway_id,
                resource=refusal.type_url.rpartition(".")[2],
                version=refusal.version,
                reason=refusal.message,
            )
        self._progress.set()

    @property
    def closing(self) -> bool:
        """Whether streams are to end."""
        return self._closing

    def _wake(self) -> None:
        for stream in self._streams:
            stream.wake()

    async def _until_answered(self, version: str, type_url: str = ROUTES) -> list[str]:
        """Waits, and names the Envoys that took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACKNOWLEDGED_WITHIN_S):
                while self._waiting(version, type_url):
                    self._progress.clear()
                    await self._progress.wait()
        return [stream.state.gateway_id for stream in self._waiting(version, type_url)]

    def _waiting(self, version: str, type_url: str) -> "list[_Stream]":
        return [stream for stream in self._streams if not stream.state.answered(version, type_url)]


class _Stream:
    """One Envoy's stream: reads what it says, and writes what it lacks."""

    def __init__(self, plane: EnvoyControlPlane) -> None:
        self._plane = plane
        self._changed = asyncio.Event()
        self._ended = False
        self.state = Subscriptions()

    def wake(self) -> None:
        """There may be something to send."""
        self._changed.set()

    async def read(self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest]) -> None:
        """Takes requests until the Envoy leaves."""
        try:
            async for request in requests:
                first = not self.state.gateway_id
                refusal = self.state.receive(request)
                if first:
                    log.info("gateway connected", gateway=self.state.gateway_id)
                self._plane.heard(self.state, refusal)
                self.wake()
        finally:
            self._ended = True
            self.wake()

    async def responses(self) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        """What the Envoy lacks, as soon as it does, until one of the two leaves."""
        while not self._ended and not self._plane.closing:
            for response in self._plane.due(self.state):
                yield response
            await self._changed.wait()
            self._changed.clear()


class _AdsServicer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, plane: EnvoyControlPlane) -> None:
        self._plane = plane

    async def StreamAggregatedResources(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[discovery_pb2.DiscoveryRequest], _context: Context
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        async with self._plane.serve_stream() as stream:
            reader = asyncio.create_task(stream.read(request_iterator), name="router:ads reader")
            try:
                async for response in stream.responses():
                    yield response
            finally:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                    await reader
                log.info("gateway left", gateway=stream.state.gateway_id)
