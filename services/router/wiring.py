"""How the router is put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import FileDescriptor
from inference import grpc_service_pb2
from infermesh.batch.v1 import batch_service_pb2
from infermesh.deployer.v1 import deployer_service_pb2
from infermesh.monitor.v1 import monitor_service_pb2
from infermesh.prediction.v1 import prediction_service_pb2
from infermesh.registry.v1 import artifact_service_pb2, registry_service_pb2, team_service_pb2
from infermesh.router.v1 import router_service_pb2_grpc, serving_table_pb2_grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.access.parts import new_access
from services.common.clock import Clock
from services.common.database import create_engine
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, Service, add_grpc_server
from services.common.grpc.tls import peer_tls
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import new_registry
from services.router.adapters.api_description import api_description
from services.router.adapters.deployer import DeployerBackendSource
from services.router.adapters.envoy.control_plane import EnvoyControlPlane
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.adapters.health import GrpcHealthSource, ReadyPathHealthSource, of_whoever_it_is
from services.router.adapters.postgres import SCHEMA, migrate_patiently
from services.router.adapters.prometheus import PrometheusBoard
from services.router.adapters.rollout_store import PostgresRolloutStore
from services.router.adapters.rule_store import PostgresRuleStore
from services.router.adapters.table_store import PostgresTableStore
from services.router.engines.batchers import Batchers
from services.router.engines.fleet import FleetKeeper
from services.router.engines.follower import Follower
from services.router.engines.neighbours import Neighbours
from services.router.engines.publisher import Publisher, PublisherOptions
from services.router.engines.rules import RuleBook
from services.router.engines.traffic import Traffic, TrafficOptions
from services.router.ports import AdmittingGateways, HealthSource
from services.router.servicers.health import MeshHealthServicer
from services.router.servicers.router import RouterServicer
from services.router.servicers.serving_table import ServingTableServicer
from services.router.settings import RouterSettings
from services.router.wiring_access import add_access, issuers, told_by_settings
from services.router.wiring_redeploy import add_followers, new_redeploy
from services.router.wiring_rollouts import TrafficParts, add_rollouts

_ROUTER_SERVICE = "infermesh.router.v1.RouterService"
_BY_BATCHERS = (prediction_service_pb2.DESCRIPTOR, grpc_service_pb2.DESCRIPTOR)
_BY_OTHERS = {
    "registry": (registry_service_pb2.DESCRIPTOR, artifact_service_pb2.DESCRIPTOR, team_service_pb2.DESCRIPTOR),
    "deployer": (deployer_service_pb2.DESCRIPTOR,),
    "batch": (batch_service_pb2.DESCRIPTOR,),
    "monitor": (monitor_service_pb2.DESCRIPTOR,),
}
"""The files of the public services, by who answers them. All of each file's services are public."""


@dataclass(frozen=True)
class Router:
    """A router, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer


def build(settings: RouterSettings, *, clock: Clock) -> Router:
    """A router with Envoys as its gateways."""
    with told_by_settings():
        gateways = EnvoyControlPlane(_envoy_options(settings))
    lifecycle = Lifecycle(name="router", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    router = assemble(settings, clock=clock, lifecycle=lifecycle, gateways=gateways, internal=[gateways.service])
    lifecycle.add("streams of gateways", stop=gateways.close)
    return router


def _envoy_options(settings: RouterSettings) -> EnvoyOptions:
    return EnvoyOptions(
        batchers=_batchers(settings),
        registry_address=settings.registry_address,
        deployer_address=settings.deployer_address,
        router_address=settings.own_address or f"{settings.host}:{settings.port}",
        batch_address=settings.batch_address,
        monitor_address=settings.monitor_address,
        gateway_host=settings.gateway_host,
        gateway_port=settings.gateway_port,
        authentication=settings.authentication,
        issuers=issuers(settings),
        limiter=settings.limiter_address,
        peer_tls_dir=settings.gateway_tls_dir,
        tls_certificate=settings.tls_certificate,
        tls_private_key=settings.tls_private_key,
    )


def assemble(
    settings: RouterSettings,
    *,
    clock: Clock,
    lifecycle: Lifecycle,
    gateways: AdmittingGateways,
    internal: Sequence[Service] = (),
) -> Router:
    """A router with these gateways; `internal` are services that it answers beside its own and that callers need not
    know of."""
    url = settings.database_url.get_secret_value()
    registry = new_registry()
    engine = create_engine(url, schema=SCHEMA, metrics=registry)
    rule_store = PostgresRuleStore(engine)
    board = PrometheusBoard(registry)
    rules = RuleBook(store=rule_store, period_s=settings.rules_period_s)
    batchers = Batchers(clock=clock)
    publisher = Publisher(
        rules=rules,
        batchers=batchers,
        gateways=gateways,
        store=PostgresTableStore(engine),
        board=board,
        clock=clock,
        options=PublisherOptions(
            batchers_patience_s=settings.batchers_patience_s, first_batcher_s=settings.first_batcher_s
        ),
    )
    rules.on_change(publisher.touch)
    options = TrafficOptions(patience_s=settings.change_patience_s, ready_patience_s=settings.ready_patience_s)
    channels = _channels(settings)
    redeploy = new_redeploy(settings, engine=engine, publisher=publisher, deployer=channels["deployer"], clock=clock)
    traffic = Traffic(
        store=rule_store,
        rules=rules,
        publisher=publisher,
        batchers=batchers,
        gateways=gateways,
        options=options,
        rollouts=PostgresRolloutStore(engine),
        redeploy=redeploy,
    )
    source = DeployerBackendSource(channels["deployer"], watcher_id=settings.instance)
    follower = Follower(source=source, publisher=publisher, board=board, clock=clock)
    fleet = FleetKeeper(
        configured=_batchers(settings),
        batchers=batchers,
        gateways=gateways,
        clock=clock,
        grace_s=settings.batcher_grace_s,
    )
    ready = _readiness(settings, fleet)
    neighbours = Neighbours(_health_sources(ready, channels), clock=clock, timeout_s=settings.health_timeout_s)

    _add_database(lifecycle, engine, settings, clock)
    lifecycle.add("traffic rules", start=rules.load)
    if settings.authentication:
        add_access(
            lifecycle,
            settings,
            engine=engine,
            registry=channels["registry"],
            gateways=gateways,
            publisher=publisher,
            batchers=batchers,
            clock=clock,
        )
    lifecycle.add("the last table", start=publisher.restore)
    for name, channel in channels.items():
        lifecycle.add(f"channel to {name}", stop=channel.close)
    access = new_access(
        lifecycle,
        registry=channels["registry"],
        watcher_id=settings.instance,
        path=settings.data_dir / "access.pb" if settings.data_dir is not None else None,
        clock=clock,
    )
    lifecycle.add_task("rules", rules.run)
    lifecycle.add_task("saved table", publisher.save)
    lifecycle.add_task("publisher", publisher.run)
    lifecycle.add_task("deployer's word", follower.run)
    if fleet.addresses:
        lifecycle.add_task("fleet of batchers", fleet.run)
    add_followers(
        lifecycle, settings, redeploy=redeploy, publisher=publisher, registry=channels["registry"], clock=clock
    )
    rollouts = add_rollouts(
        lifecycle,
        settings,
        base=TrafficParts(engine, rule_store, rules, publisher, traffic, options),
        monitor=channels["monitor"],
        metrics=registry,
        clock=clock,
    )
    lifecycle.on_health("what is ready is known", lambda: publisher.known)
    router = RouterServicer(
        traffic=traffic,
        publisher=publisher,
        batchers=batchers,
        fleet=fleet,
        gateways=gateways,
        canaries=rollouts.canaries,
        ab_tests=rollouts.ab_tests,
        book=access.book,
        description=api_description(),
    )
    server = add_grpc_server(
        lifecycle,
        settings,
        services=[_public(router, ServingTableServicer(batchers), internal)],
        clock=clock,
        registry=registry,
        reflected=_reflected(),
        health=MeshHealthServicer(neighbours),
        guard=access.guard,
    )
    lifecycle.add("streams of batchers", stop=batchers.close)
    return Router(lifecycle, server)


def _public(router: RouterServicer, table: ServingTableServicer, internal: Sequence[Service]) -> Service:
    """All that the router answers, as the one service that callers are shown."""

    def add(server: grpc.aio.Server) -> None:
        router_service_pb2_grpc.add_RouterServiceServicer_to_server(router, server)
        serving_table_pb2_grpc.add_ServingTableServiceServicer_to_server(table, server)
        for add_internal, _ in internal:
            add_internal(server)

    return add, _ROUTER_SERVICE


def _readiness(settings: RouterSettings, fleet: FleetKeeper) -> HealthSource:
    """Of the batchers, or of the gateway that carries one."""
    if fleet.addresses:
        tls = peer_tls(settings)
        return ReadyPathHealthSource(lambda: fleet.addresses, tls=tls.for_sockets() if tls is not None else None)
    gateway = settings.gateway_address or f"{settings.gateway_host}:{settings.gateway_port}"
    return ReadyPathHealthSource(lambda: [gateway], tls=of_whoever_it_is() if settings.tls_certificate else None)


def _channels(settings: RouterSettings) -> Mapping[str, grpc.aio.Channel]:
    addresses = {
        "registry": settings.registry_address,
        "deployer": settings.deployer_address,
        "batch": settings.batch_address,
        "monitor": settings.monitor_address,
    }
    tls = peer_tls(settings)
    return {name: open_channel(address, tls=tls) for name, address in addresses.items()}


def _health_sources(ready: HealthSource, channels: Mapping[str, grpc.aio.Channel]) -> Mapping[str, HealthSource]:
    sources: dict[str, HealthSource] = {}
    for file in _BY_BATCHERS:
        sources |= dict.fromkeys(_services(file), ready)
    for name, files in _BY_OTHERS.items():
        source = GrpcHealthSource(channels[name])
        for file in files:
            sources |= dict.fromkeys(_services(file), source)
    return sources


def _services(file: FileDescriptor) -> list[str]:
    return [service.full_name for service in file.services_by_name.values()]


def _batchers(settings: RouterSettings) -> tuple[str, ...]:
    return tuple(filter(None, (address.strip() for address in settings.batcher_address.split(","))))


def _reflected() -> list[str]:
    files = [*_BY_BATCHERS, *(file for files in _BY_OTHERS.values() for file in files)]
    return [service for file in files for service in _services(file)]


def _add_database(lifecycle: Lifecycle, engine: AsyncEngine, settings: RouterSettings, clock: Clock) -> None:
    async def start() -> None:
        url = settings.database_url.get_secret_value()
        await migrate_patiently(url, clock=clock, patience_s=settings.database_patience_s)

    lifecycle.add("database", start=start, stop=engine.dispose)
