"""How the operator is put together."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from services.common.access.book import AccessBook
from services.common.access.follower import AccessFollower, RegistryAccessSource
from services.common.clock import Clock
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.grpc.tls import peer_tls
from services.common.kubernetes.api_server import ApiServer, counted
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import new_registry
from services.operator.adapters.authorities import AuthoritiesFile
from services.operator.adapters.cluster import KubernetesCluster, KubernetesLease
from services.operator.adapters.registry import RegistryFetchKeys, RegistryTeams, RegistryVersions
from services.operator.adapters.router import RouterAbTests
from services.operator.adapters.watching import KopfView
from services.operator.domain.lease import LeaseTerms
from services.operator.domain.manifests.team import ReplicaDefaults
from services.operator.domain.options import SYSTEM_AUTHORITIES, TEAMS_AUTHORITIES, ClusterOptions
from services.operator.engines.ab_tests import AbTestReconciler
from services.operator.engines.fetch_keys import FetchKeyKeeper
from services.operator.engines.leader import Leader
from services.operator.engines.queue import WorkQueue
from services.operator.engines.reconciler import Reconciler
from services.operator.engines.teams import TeamKeeper
from services.operator.ports import AbTests, FetchKeys, Teams, Versions
from services.operator.settings import OperatorSettings

_GAP_S = 0.2
_TEAMS_AGAIN_S = 600.0
_AB_WORKERS = 2


@dataclass(frozen=True)
class Operator:
    """An operator, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer
    api: ApiServer
    view: KopfView
    queue: WorkQueue
    leader: Leader


def build(settings: OperatorSettings, *, clock: Clock) -> Operator:
    """An operator over the registry and the router of its settings, not started yet."""
    lifecycle = Lifecycle(name="operator", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    tls = peer_tls(settings)
    registry, router = open_channel(settings.registry_address, tls=tls), open_channel(settings.router_address, tls=tls)
    lifecycle.add("channel to the registry", stop=registry.close)
    lifecycle.add("channel to the router", stop=router.close)
    book = AccessBook()
    access = RegistryAccessSource(registry, watcher_id=settings.instance)
    lifecycle.add_task(
        "registry's word on access", AccessFollower(source=access, book=book, clock=clock, path=None).run
    )
    return assemble(
        settings,
        clock=clock,
        lifecycle=lifecycle,
        versions=RegistryVersions(registry),
        teams=RegistryTeams(registry) if settings.teams else None,
        keys=RegistryFetchKeys(registry, revoked=book.revoked),
        ab_tests=RouterAbTests(router),
    )


def assemble(
    settings: OperatorSettings,
    *,
    clock: Clock,
    lifecycle: Lifecycle,
    versions: Versions,
    teams: Teams | None,
    keys: FetchKeys,
    ab_tests: AbTests,
) -> Operator:
    """An operator over this registry and this router. Without `teams` no namespace is made, and no
    key."""
    metrics = new_registry()
    api = ApiServer(
        kubeconfig=settings.kubeconfig,
        clock=clock,
        calls_per_s=settings.calls_per_s,
        calls_burst=settings.calls_burst,
        deadline_s=settings.call_deadline_s,
        calls=counted("operator", metrics),
        service="operator",
    )
    cluster = KubernetesCluster(api, clock=clock, instance=settings.instance)
    view = KopfView(
        api.configuration,
        namespaces=_listed(settings.namespaces),
        named=lambda name: queue.add(name),
        ab_test_named=lambda name: test_queue.add(name),
    )
    options = options_of(settings)
    reconciler = Reconciler(cluster=cluster, view=view, versions=versions, clock=clock, options=options)
    queue = WorkQueue(reconciler.look, clock=clock, workers=settings.workers, gap_s=_GAP_S, what="model deployment")
    tests = AbTestReconciler(cluster=cluster, find=view.ab_test, tests=ab_tests, clock=clock)
    test_queue = WorkQueue(tests.look, clock=clock, workers=_AB_WORKERS, gap_s=_GAP_S, what="A/B test")
    keeper = None
    if teams is not None:
        keeper = TeamKeeper(
            teams=teams,
            cluster=cluster,
            clock=clock,
            defaults=ReplicaDefaults(settings.replica_cpu_default, settings.replica_memory_default),
            mesh_namespace=settings.mesh_namespace,
            period_s=settings.teams_period_s,
            renew_s=_TEAMS_AGAIN_S,
            keys=FetchKeyKeeper(
                keys=keys,
                cluster=cluster,
                clock=clock,
                life=timedelta(days=settings.fetch_key_days),
                authorities=_authorities(settings).read,
            ),
            namespaces=_listed(settings.namespaces),
        )

    async def watch() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(view.run(), name="operator: watching")
            group.create_task(queue.run(), name="operator: model deployments")
            group.create_task(test_queue.run(), name="operator: A/B tests")
            if keeper is not None:
                group.create_task(keeper.run(), name="operator: teams")

    async def work() -> None:
        while True:
            # A deletion that falls into a break of watching is told by nobody; a list begun anew does not have it.
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.relist_s):
                    await watch()

    leader = Leader(
        work,
        store=KubernetesLease(api, namespace=settings.lease_namespace, name=settings.lease_name),
        me=settings.instance,
        clock=clock,
        terms=_terms(settings),
    )
    _figures(metrics, leads=lambda: leader.leads, waiting=lambda: len(queue))
    lifecycle.add("credentials of the cluster", start=api.open, stop=api.close)
    lifecycle.add_task("leader", leader.run)
    server = add_grpc_server(lifecycle, settings, services=[], clock=clock, registry=metrics)
    return Operator(lifecycle, server, api, view, queue, leader)


def options_of(settings: OperatorSettings) -> ClusterOptions:
    """What is the same for all that is made."""
    label, _, value = settings.gpu_node_label.partition("=")
    return ClusterOptions(
        fetch_image=settings.fetch_image,
        server_image=settings.server_image,
        gateway_address=settings.gateway_address_in_pods,
        gateway_port=settings.gateway_port,
        gateway_tls=_gateway_tls(settings.gateway_tls),
        mesh_namespace=settings.mesh_namespace,
        monitoring_namespace=settings.monitoring_namespace,
        image_pull_secrets=_listed(settings.image_pull_secrets),
        prometheus_url=settings.prometheus_url,
        package_index=settings.package_index,
        native_backends=_listed(settings.native_backends),
        egress_cidrs=_listed(settings.egress_cidrs),
        load_timeout_s=settings.load_timeout_s,
        drain_s=settings.drain_s,
        request_timeout_s=settings.request_timeout_s,
        run_as_user=settings.run_as_user,
        gpu_node_selector={label: value},
        gpu_taint=settings.gpu_taint,
    )


def _authorities(settings: OperatorSettings) -> AuthoritiesFile:
    own = _gateway_tls(settings.gateway_tls) == TEAMS_AUTHORITIES
    return AuthoritiesFile(Path(settings.gateway_tls) if own else None)


def _gateway_tls(said: str) -> str:
    """Raises SystemExit where the file is not there."""
    if said in ("", SYSTEM_AUTHORITIES):
        return said
    if not Path(said).is_file():
        raise SystemExit(
            f"INFERMESH_OPERATOR_GATEWAY_TLS is {said!r}, and there is no such file of certificates; name one, or say "
            f"{SYSTEM_AUTHORITIES!r}"
        )
    return TEAMS_AUTHORITIES


def _terms(settings: OperatorSettings) -> LeaseTerms:
    lasts_s = settings.lease_lasts_s
    return LeaseTerms(lasts_s=lasts_s, renew_s=lasts_s / 5, gives_up_s=lasts_s * 2 / 3, try_s=lasts_s / 7.5)


def _listed(said: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in said.split(",") if one.strip())


def _figures(registry: CollectorRegistry, *, leads: Callable[[], bool], waiting: Callable[[], int]) -> None:
    leading = Gauge("operator_leads", "1 where this operator works, 0 where it waits", registry=registry)
    leading.set_function(lambda: float(leads()))
    queued = Gauge("operator_queue_length", "Model deployments that wait or are being looked at", registry=registry)
    queued.set_function(waiting)
