"""How the clusters are put together in which the work of jobs runs."""

from prometheus_client import CollectorRegistry

from services.batch.adapters.indexed_jobs import IndexedJobs
from services.batch.adapters.postgres_work import PostgresWorkStore
from services.batch.engines.launch import Launches, LaunchOptions
from services.batch.ports_launch import Namespaces
from services.batch.settings import BatchSettings
from services.common.clock import Clock
from services.common.kubernetes.api_server import ApiServer, counted
from services.common.lifecycle import Lifecycle

_CALLS_PER_S, _CALLS_BURST = 20.0, 50
"""The pace of calls to a cluster's API server."""
_DEADLINE_S = 10.0


def new_launches(
    lifecycle: Lifecycle,
    settings: BatchSettings,
    *,
    store: PostgresWorkStore,
    namespaces: Namespaces,
    metrics: CollectorRegistry,
    clock: Clock,
) -> Launches:
    """The clusters of the settings, whose credentials are read at the start, and followed from then on."""
    launchers: dict[str, IndexedJobs] = {}
    calls = counted("batch", metrics)
    for name, kubeconfig in settings.kubeconfigs.items():
        server = ApiServer(
            kubeconfig=kubeconfig,
            clock=clock,
            calls_per_s=_CALLS_PER_S,
            calls_burst=_CALLS_BURST,
            deadline_s=_DEADLINE_S,
            calls=calls,
            service="batch service",
        )
        launcher = IndexedJobs(name, server, owner=settings.cluster_owner, namespaces=settings.namespaces, clock=clock)
        lifecycle.add(f"credentials of cluster {name}", start=server.open, stop=server.close)
        lifecycle.add_task(f"cluster {name}", launcher.run)
        launchers[name] = launcher
    return Launches(
        launchers,
        namespaces=namespaces,
        standings=store.standings,
        ever_leased=store.ever_leased,
        options=LaunchOptions(
            pods=settings.pod_options(
                authentication=settings.authentication,
                request_timeout_s=settings.request_timeout_s,
                outage_timeout_s=settings.outage_timeout_s,
            ),
            namespace_default=settings.cluster_namespace,
            start_timeout_s=settings.pod_start_timeout_s,
            silent_timeout_s=settings.pod_silent_timeout_s,
            outage_timeout_s=settings.outage_timeout_s,
            poll_period_s=settings.poll_period_s,
        ),
        clock=clock,
    )
