"""How the deployer is put together."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uv
from infermesh.deployer.v1 import (
    activation_service_pb2_grpc,
    backend_service_pb2_grpc,
    deployer_service_pb2_grpc,
)
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.access.guard import Guard
from services.common.access.parts import AccessParts, new_access
from services.common.clock import Clock
from services.common.database import create_engine, migrate
from services.common.errors import MeshError
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.grpc.tls import peer_tls
from services.common.kubernetes.api_server import ApiServer, counted
from services.common.kubernetes.namespaces import RegistryNamespaces
from services.common.lifecycle import Lifecycle
from services.common.outside_credentials import Credentials
from services.common.outside_tls import OutsideTls
from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.common.telemetry.metrics import new_registry
from services.deployer.adapters.artifact_cache import ArtifactCache
from services.deployer.adapters.environments import TOUCH_EVERY_S, UvEnvironments
from services.deployer.adapters.external import open_external
from services.deployer.adapters.forecaster import ProcessForecaster
from services.deployer.adapters.installer import Installer
from services.deployer.adapters.kubernetes.cluster import KubernetesCluster
from services.deployer.adapters.kubernetes.pods import open_pod
from services.deployer.adapters.machine import memory_limits
from services.deployer.adapters.postgres import SCHEMA, PostgresDeploymentStore
from services.deployer.adapters.processes import ProcCopyUsage
from services.deployer.adapters.prometheus import PrometheusBoard
from services.deployer.adapters.quantizer import OnnxQuantizer
from services.deployer.adapters.registry import RegistryArtifacts, RegistryVersionSource
from services.deployer.adapters.repository import FolderPackageStore, digests_in, environments_in
from services.deployer.adapters.request_history import PostgresRequestHistory
from services.deployer.adapters.router import RouterTraffic
from services.deployer.adapters.triton import TritonServer
from services.deployer.adapters.triton_memory import TritonMemory
from services.deployer.adapters.triton_metrics import TritonGpuUsage
from services.deployer.adapters.triton_processes import TritonProcesses
from services.deployer.domain.catalog import Place
from services.deployer.domain.retention import Retention
from services.deployer.engines.activations import Activations
from services.deployer.engines.admission import Admission
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.cluster_wishes import ClusterWishes
from services.deployer.engines.clusters import Clusters
from services.deployer.engines.demand import Demand
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.fleet import Fleet
from services.deployer.engines.forecasts import Forecasts
from services.deployer.engines.history import RequestHistory
from services.deployer.engines.memories import Memories
from services.deployer.engines.mirror import Mirror
from services.deployer.engines.owners import Owners
from services.deployer.engines.pool import Pool, PoolOptions
from services.deployer.engines.reconciler import Reconciler, ReconcilerOptions
from services.deployer.engines.scaling import Scaling
from services.deployer.engines.usage import Usage
from services.deployer.ports import ArtifactSource, Namespaces, TrafficRouter, VersionSource
from services.deployer.servicers.backends import ActivationServicer, BackendServicer
from services.deployer.servicers.deployer import DeployerServicer
from services.deployer.settings import DeployerSettings

log = get_logger(__name__)

_PACKAGE = "infermesh.deployer.v1"
_DAY_S = 86_400.0
_FORGET_EVERY_S = 3600.0
_DRAIN_WAIT_MARGIN_S = 4.0
"""A deployment made right after its namesake was removed waits for the drain and this much more."""
_CLUSTER_CALLS_PER_S, _CLUSTER_CALLS_BURST = 50.0, 100
"""The pace of calls to a cluster's API server."""
_CLUSTER_DEADLINE_S = 15.0
_GATHER_S = 0.05
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
        namespaces=RegistryNamespaces(registry),
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
    namespaces: Namespaces | None = None,
) -> Deployer:
    """A deployer over this registry and this router, for callers whom `access` tells apart. Without `artifacts` only
    those that lie on this machine's disks are loaded; without `namespaces` nobody's team has one."""
    url = settings.database_url.get_secret_value()
    metrics = new_registry()
    engine = create_engine(url, schema=SCHEMA, metrics=metrics)
    _add_database(lifecycle, engine, url)
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
    catalog = Catalog(store=store)
    memories = Memories(
        {name: TritonMemory(TritonProcesses(one.place.http_address)) for name, one in servers.items()}, clock=clock
    )
    limits = memory_limits([one.place for one in servers.values()], settings.server_memory_limit)
    pool = Pool(
        servers, demand=demand, memories=memories, clock=clock, options=PoolOptions(limits, drain_s=settings.drain_s)
    )
    kubernetes = _clusters(lifecycle, settings, clock, metrics)
    clusters = Clusters(kubernetes)
    outside = partial(
        open_external,
        tls=OutsideTls.told(settings.external_ca),
        credentials=Credentials(settings.external_credentials),
    )
    fleet = Fleet(servers, outside, pool, clusters=kubernetes, open_pod=open_pod)
    bringer = Bringer(
        store=store,
        versions=versions,
        fleet=fleet,
        packages=packages,
        environments=environments,
        clock=clock,
        threads_default=settings.threads,
        loads_max=settings.loads_max,
        board=PrometheusBoard(metrics),
        memories=memories,
        equipment=settings.equipment,
    )
    scaling = _add_scaling(lifecycle, settings, clock, engine=engine, demand=demand)
    reconciler = Reconciler(
        store=store,
        fleet=fleet,
        packages=packages,
        bringer=bringer,
        router=router,
        catalog=catalog,
        demand=demand,
        scaling=scaling,
        changed=changed,
        clock=clock,
        clusters=clusters,
        options=ReconcilerOptions(
            period_s=settings.period_s,
            drain_s=settings.drain_s,
            routing_patience_s=settings.routing_patience_s,
            retention=Retention(settings.old_version_keep_days * _DAY_S, settings.old_versions_max),
        ),
    )
    admission = Admission(
        store=store,
        versions=versions,
        artifacts=artifacts,
        environments=environments,
        terms=access.book,
        clock=clock,
        local_replicas_max=settings.local_replicas_max,
        open_external=outside,
        external_hosts=tuple(host.strip() for host in settings.external_hosts.split(",") if host.strip()),
        equipment=settings.equipment,
        clusters=clusters,
        namespaces=namespaces,
        namespace_default=settings.cluster_namespace,
    )
    deployments = Deployments(
        store=store,
        admission=admission,
        clock=clock,
        changed=changed,
        drain_wait_s=settings.drain_s + _DRAIN_WAIT_MARGIN_S,
        cluster_wishes=ClusterWishes(store=store, clusters=clusters),
    )
    lifecycle.add("model repository", start=packages.start)
    lifecycle.add("environments", start=lambda: _prune(environments, settings.model_repository))
    lifecycle.add_task("environments in use", lambda: _keep(environments, settings.model_repository, clock))
    for name, triton in servers.items():
        lifecycle.add(f"client of {name}", stop=triton.close)
    lifecycle.add("clients of external servers", stop=fleet.close)
    lifecycle.add_task(
        "deployments' owners", Owners(store=store, terms=access.book, changes=access.book.changes, clock=clock).run
    )
    lifecycle.add_task("memory of the model servers", memories.run)
    lifecycle.add_task("old events", lambda: _forget_events(store, clock))
    for name, cluster in kubernetes.items():
        mirror = Mirror(
            cluster=cluster,
            clusters=clusters,
            store=store,
            admission=admission,
            demand=demand,
            scaling=scaling,
            changed=changed,
            clock=clock,
        )
        lifecycle.add_task(f"cluster {name}", cluster.run)
        lifecycle.add_task(f"mirror of cluster {name}", mirror.run)
        lifecycle.add_task(f"changes of cluster {name}", partial(_pass_on, cluster.changed, changed, clock))
    lifecycle.add_task("reconciler", reconciler.run)
    lifecycle.add("work in hand", stop=reconciler.stop, stop_timeout_s=_WORK_STOP_TIMEOUT_S)
    lifecycle.on_health("what is published is restored", lambda: catalog.restored)
    lifecycle.on_health("the database answers", lambda: reconciler.reachable)
    deployer = DeployerServicer(
        deployments=deployments, fleet=fleet, catalog=catalog, memories=memories, limits=limits, book=access.book
    )
    activations = Activations(store=store, catalog=catalog, demand=demand, changed=changed, clock=clock)
    server = _add_server(
        lifecycle,
        settings,
        clock,
        guard=access.guard,
        deployer=deployer,
        backends=BackendServicer(catalog),
        activation=ActivationServicer(activations, demand, catalog),
        metrics=metrics,
    )
    return Deployer(lifecycle, server)


def _add_scaling(
    lifecycle: Lifecycle, settings: DeployerSettings, clock: Clock, *, engine: AsyncEngine, demand: Demand
) -> Scaling:
    """What the number of replicas follows and precedes."""
    kept = PostgresRequestHistory(engine)
    history = RequestHistory(store=kept, demand=demand, clock=clock)
    forecasts = Forecasts(store=kept, forecaster=ProcessForecaster(), history=history, clock=clock)
    metrics = _by_server(settings.triton_metrics_address) if settings.triton_metrics_address else {}
    gpus = TritonGpuUsage(metrics)
    copies = ProcCopyUsage(_by_server(settings.triton_http_address), clock=clock)
    usage = Usage(copies=copies, gpus=gpus, clock=clock, threads_default=settings.threads)
    lifecycle.add("client of the model servers' metrics", stop=gpus.close)
    lifecycle.add("counts of requests", stop=history.write)
    lifecycle.add_task("request history", history.run)
    lifecycle.add_task("forecasts", forecasts.run)
    lifecycle.add_task("CPU and GPU use", usage.run)
    return Scaling(demand=demand, usage=usage, history=history, forecasts=forecasts, clock=clock)


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


async def _pass_on(there: Signal, here: Signal, clock: Clock) -> None:
    """Has the loop look whenever a cluster is otherwise, several changes within a moment as one."""
    while True:
        await there.current.wait()
        await clock.sleep(_GATHER_S)
        here.fire()


def _clusters(
    lifecycle: Lifecycle, settings: DeployerSettings, clock: Clock, metrics: CollectorRegistry
) -> Mapping[str, KubernetesCluster]:
    """The clusters of the settings, whose credentials are read at the start."""
    found: dict[str, KubernetesCluster] = {}
    calls = counted("deployer", metrics)
    for name, kubeconfig in settings.kubeconfigs.items():
        server = ApiServer(
            kubeconfig=kubeconfig,
            clock=clock,
            calls_per_s=_CLUSTER_CALLS_PER_S,
            calls_burst=_CLUSTER_CALLS_BURST,
            deadline_s=_CLUSTER_DEADLINE_S,
            calls=calls,
            service="deployer",
        )
        lifecycle.add(f"credentials of cluster {name}", start=server.open, stop=server.close)
        found[name] = KubernetesCluster(name, server, namespaces=settings.namespaces, clock=clock)
    return found


async def _keep(environments: UvEnvironments, repository: Path, clock: Clock) -> None:
    """Says now and then which environments are used, so that no other deployer takes them away."""
    while True:
        await environments.touch(await asyncio.to_thread(environments_in, repository))
        await clock.sleep(TOUCH_EVERY_S)


async def _forget_events(store: PostgresDeploymentStore, clock: Clock) -> None:
    """Removes old events once an hour."""
    while True:
        try:
            await store.forget_events()
        except MeshError as error:
            log.warning("old events are not removed yet", error=error.message)
        await clock.sleep(_FORGET_EVERY_S)


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
    http, grpc = _by_server(settings.triton_http_address), _by_server(settings.triton_grpc_address)
    places = [Place(server_id=name, http_address=http[name], grpc_address=grpc[name]) for name in http]
    return {place.server_id: TritonServer(place, load_timeout_s=settings.load_timeout_s) for place in places}


def _by_server(addresses: str) -> Mapping[str, str]:
    """Addresses separated by commas, by the names of the servers."""
    return {f"triton-{number}": address.strip() for number, address in enumerate(addresses.split(","))}


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
    metrics: CollectorRegistry,
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
        registry=metrics,
    )
