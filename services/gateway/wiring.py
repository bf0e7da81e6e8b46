"""How the keeper is put together."""

from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.grpc.tls import PeerTls
from services.common.lifecycle import Lifecycle
from services.common.telemetry.logging import get_logger
from services.gateway.adapters.files import FileStore
from services.gateway.adapters.router import GrpcRouter
from services.gateway.engines.keeper import Keeper
from services.gateway.engines.shelf import Shelf
from services.gateway.limits import SERVER_OPTIONS
from services.gateway.servicer import add_ads
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)


@dataclass
class GatewayKeeper:
    """A keeper, ready to run."""

    lifecycle: Lifecycle
    port: int
    """Real once it has started."""


def build(settings: GatewaySettings, *, clock: Clock) -> GatewayKeeper:
    """A keeper that is not started yet."""
    try:
        tls = PeerTls.in_folder(settings.tls_dir, "INFERMESH_GATEWAY_TLS_DIR")
    except MeshError as error:
        raise SystemExit(error.message) from None
    router = GrpcRouter(
        settings.router_address,
        connect_timeout_s=settings.connect_timeout_s,
        credentials=tls.for_channels() if tls is not None else None,
    )
    shelf = Shelf(FileStore(settings.data_dir, layout=settings.layout), clock=clock, period_s=settings.save_period_s)
    keeper = Keeper(router=router, shelf=shelf, clock=clock, patience_s=settings.patience_s)
    lifecycle = Lifecycle(name="gateway", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    running = GatewayKeeper(lifecycle, settings.port)

    lifecycle.add("channel to the router", stop=router.close)
    lifecycle.add_task("router", router.run)

    async def flush() -> None:
        await shelf.flush()

    lifecycle.add("last write", stop=flush)
    lifecycle.add_task("disk", shelf.run)
    _add_server(running, settings, keeper)
    return running


def _add_server(running: GatewayKeeper, settings: GatewaySettings, keeper: Keeper) -> None:
    """Not the server that services share: that has metrics and traces, which cost more memory than all else here."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    health = HealthServicer()
    add_ads(server, keeper)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)

    async def start() -> None:
        address = f"{settings.host}:{settings.port}"
        try:
            running.port = server.add_insecure_port(address)
        except RuntimeError:
            raise SystemExit(
                f"cannot listen on {address}: the port is taken; stop its owner or set another port"
            ) from None
        await server.start()
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        log.info("listening", address=f"{settings.host}:{running.port}", router=settings.router_address)

    async def stop() -> None:
        await health.enter_graceful_shutdown()
        # Streams have no end of their own. Gateways keep what they have.
        await server.stop(grace=None)

    running.lifecycle.add("grpc server", start=start, stop=stop)
