"""How the deployer is put together."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uv
from infermesh.deployer.v1 import (
    activation_service_pb2_grpc,
    backend_service_pb2_grpc,
    deployer_service_pb2_grpc,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.access.guard import Guard
from services.common.access.parts import AccessParts, new_access
from services.common.clock import Clock
from services.common.database import create_engine, migrate
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.grpc.tls import peer_tls
from services.common.lifecycle import Lifecycle
from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.deployer.adapters.artifact_cache import ArtifactCache
from services.deployer.adapters.environments import TOUCH_EVERY_S, UvEnvironments
from services.deployer.adapters.installer import Installer
from services.deployer.adapters.postgres import SCHEMA, PostgresDeploymentStore
from services.deployer.adapters.quantizer import OnnxQuantizer
from services.deployer.adapters.registry import RegistryArtifacts, RegistryVersionSource
from services.deployer.adapters.repository import FolderPackageStore, digests_in, environments_in
from services.deployer.adapters.router import RouterTraffic
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.catalog import Place
from services.deployer.engines.activations import Activations
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.demand import Demand
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.owners import Owners
from services.deployer.engines.reconciler import Reconciler, ReconcilerOptions
from services.deployer.engines.scaling import Scaling
from services.deployer.ports import ArtifactSource, TrafficRouter, VersionSource
from services.deployer.servicers.backends import ActivationServicer, BackendServicer
from services.deployer.servicers.deployer import DeployerServicer
from services.deployer.settings import DeployerSettings

log = get_logger(__name__)

_PACKAGE = "infermesh.deployer.v1"
_DAY_S = 86_400.0
_DRAIN_WAIT_MARGIN_S = 4.0
"""A deployment made right after its namesake was removed waits for the drain and this much more."""
_WORK_STOP_TIMEOUT_S = 2.0
"""How long a stop waits for steps in hand; a load that takes longer is begun again by the next start."""


@dataclass(frozen=True)
class Deployer:
    """A deployer, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer


def build(settings: DeployerSettings, *, clock: Clock) -> Deployer:
    """A deployer over the registry and the router of its settings, not started yet."""
    lifecycle = Lifecycle(name="deployer", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    tls = peer_tls(settings)
    registry, router = open_channel(settings.registry_address, tls=tls), open_channel(settings.router_address, tls=tls)
    lifecycle.add("channel to the registry", stop=registry.close)
    lifecycle.add("channel to the router", stop=router.close)
    access = new_access(
        lifecycle,
        registry=registry,
        watcher_id=settings.instance,
        path=settings.data_dir / "access.pb",
        clock=clock,
    )
    return assemble(
        settings,
        clock=clock,
        lifecycle=lifecycle,
        versions=RegistryVersionSource(registry),
        artifacts=RegistryArtifacts(registry),
        router=RouterTraffic(router),
        access=access,
    )


def assemble(
    settings: DeployerSettings,
    *,
    clock: Clock,
    lifecycle: Lifecycle,
    versions: VersionSource,
    router: TrafficRouter,
    access: AccessParts,
    artifacts: ArtifactSource | None = None,
) -> Deployer:
    """A deployer over this registry and this router, for callers whom `access` tells apart. Without `artifacts` only
    those that lie on this machine's disks are loaded."""
    url = settings.database_url.get_secret_value()
    engine = create_engine(url, schema=SCHEMA)
    store = PostgresDeploymentStore(engine)
    servers = _servers(settings)
    cache = _cache(settings, artifacts) if artifacts is not None else None
    quantizer = OnnxQuantizer(settings.serving_python.absolute(), settings.runner.parent / "quantize.py")
    packages = FolderPackageStore(
        settings.model_repository, runner=settings.runner, artifacts=cache, quantizer=quantizer
    )
    environments = UvEnvironments(
        (settings.environments or settings.data_dir / "environments").absolute(),
        installer(settings),
        clock=clock,
        keep_s=settings.environment_keep_days * _DAY_S,
    )
    changed = Signal()
    demand = Demand(clock=clock, changed=changed)
    catalog = Catalog(store=store, pool={name: server.place for name, server in servers.items()})
    bringer = Bringer(
        store=store,
        versions=versions,
        servers=servers,
        packages=packages,
        environments=environments,
        clock=clock,
        threads_default=settings.threads,
        loads_max=settings.loads_max,
    )
    reconciler = Reconciler(
        store=store,
        servers=servers,
        packages=packages,
        bringer=bringer,
        router=router,
        catalog=catalog,
        demand=demand,
        scaling=Scaling(demand=demand, clock=clock),
        changed=changed,
        clock=clock,
        options=ReconcilerOptions(
            period_s=settings.period_s,
            drain_s=settings.drain_s,
            routing_patience_s=settings.routing_patience_s,
        ),
    )
    deployments = Deployments(
        store=store,
        versions=versions,
        terms=access.book,
        clock=clock,
        changed=changed,
        local_replicas_max=settings.local_replicas_max,
        drain_wait_s=settings.drain_s + _DRAIN_WAIT_MARGIN_S,
    )
    _add_database(lifecycle, engine, url)
    lifecycle.add("model repository", start=packages.start)
    lifecycle.add("environments", start=lambda: _prune(environments, settings.model_repository))
    lifecycle.add_task("environments in use", lambda: _keep(environments, settings.model_repository, clock))
    for name, triton in servers.items():
        lifecycle.add(f"client of {name}", stop=triton.close)
    owners = Owners(store=store, terms=access.book, changes=access.book.changes, clock=clock)
    lifecycle.add_task("deployments' owners", owners.run)
    lifecycle.add_task("reconciler", reconciler.run)
    lifecycle.add("work in hand", stop=reconciler.stop, stop_timeout_s=_WORK_STOP_TIMEOUT_S)
    lifecycle.on_health("what is published is restored", lambda: catalog.restored)
    lifecycle.on_health("the database answers", lambda: reconciler.reachable)
    deployer = DeployerServicer(deployments=deployments, reconciler=reconciler, servers=servers, book=access.book)
    activations = Activations(store=store, catalog=catalog, demand=demand, changed=changed, clock=clock)
    server = _add_server(
        lifecycle,
        settings,
        clock,
        guard=access.guard,
        deployer=deployer,
        backends=BackendServicer(catalog),
        activation=ActivationServicer(activations, demand, catalog),
    )
    return Deployer(lifecycle, server)


def installer(settings: DeployerSettings) -> Installer:
    """Where environments get their packages."""
    return Installer(
        uv=Path(uv.find_uv_bin()),
        python=settings.serving_python.absolute(),
        locks=settings.framework_locks,
        index=settings.package_index,
        proxy=settings.package_proxy,
        links=tuple(link for link in settings.package_links.split() if link),
    )


async def _keep(environments: UvEnvironments, repository: Path, clock: Clock) -> None:
    """Says now and then which environments are used, so that no other deployer takes them away."""
    while True:
        await environments.touch(await asyncio.to_thread(environments_in, repository))
        await clock.sleep(TOUCH_EVERY_S)


async def _prune(environments: UvEnvironments, repository: Path) -> None:
    removed = await environments.prune(await asyncio.to_thread(environments_in, repository))
    if removed:
        log.info("removed environments that nothing used", environments=removed)


def _cache(settings: DeployerSettings, artifacts: ArtifactSource) -> ArtifactCache:
    return ArtifactCache(
        settings.data_dir / "artifacts",
        source=artifacts,
        bytes_max=settings.artifact_cache_bytes_max,
        pinned=lambda: digests_in(settings.model_repository),
    )


def _servers(settings: DeployerSettings) -> Mapping[str, TritonServer]:
    pairs = zip(settings.triton_http_address.split(","), settings.triton_grpc_address.split(","), strict=True)
    places = [
        Place(server_id=f"triton-{number}", http_address=http.strip(), grpc_address=grpc.strip())
        for number, (http, grpc) in enumerate(pairs)
    ]
    return {place.server_id: TritonServer(place, load_timeout_s=settings.load_timeout_s) for place in places}


def _add_database(lifecycle: Lifecycle, engine: AsyncEngine, url: str) -> None:
    async def start() -> None:
        await migrate(url, service="deployer")

    lifecycle.add("database", start=start, stop=engine.dispose)


def _add_server(
    lifecycle: Lifecycle,
    settings: DeployerSettings,
    clock: Clock,
    *,
    guard: Guard,
    deployer: DeployerServicer,
    backends: BackendServicer,
    activation: ActivationServicer,
) -> GrpcServer:
    return add_grpc_server(
        lifecycle,
        settings,
        services=[
            (
                lambda server: deployer_service_pb2_grpc.add_DeployerServiceServicer_to_server(deployer, server),
                f"{_PACKAGE}.DeployerService",
            ),
            (
                lambda server: backend_service_pb2_grpc.add_BackendServiceServicer_to_server(backends, server),
                f"{_PACKAGE}.BackendService",
            ),
            (
                lambda server: activation_service_pb2_grpc.add_ActivationServiceServicer_to_server(activation, server),
                f"{_PACKAGE}.ActivationService",
            ),
        ],
        clock=clock,
        guard=guard,
    )
