"""How the limiter is put together."""

from dataclasses import dataclass

import grpc
from meshxds.envoy.service.ratelimit.v3 import rls_pb2_grpc
from prometheus_client import CollectorRegistry

from services.common.clock import Clock
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.grpc.tls import peer_tls
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import new_registry
from services.limiter.adapters.prometheus import LimiterCollector
from services.limiter.adapters.redis_buckets import RedisBuckets
from services.limiter.adapters.registry import RegistryLimits
from services.limiter.engines.following import LimitFollower
from services.limiter.engines.limits import Limiter
from services.limiter.servicer import SERVICE, RateLimitServicer
from services.limiter.settings import LimiterSettings


@dataclass(frozen=True)
class LimiterProcess:
    """A limiter, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer


def build(settings: LimiterSettings, *, clock: Clock) -> LimiterProcess:
    """A limiter over its Redis. It is ready at once: before it knows limits, it lets everybody through."""
    lifecycle = Lifecycle(name="limiter", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    store = RedisBuckets(settings.redis_url.get_secret_value(), clock=clock)
    channel = open_channel(settings.registry_address, tls=peer_tls(settings))
    limiter = Limiter(store)
    follower = LimitFollower(source=RegistryLimits(channel, watcher_id=settings.instance), limiter=limiter, clock=clock)
    lifecycle.add("Redis", stop=store.close)
    lifecycle.add("channel to the registry", stop=channel.close)
    lifecycle.add_task("limits", follower.run)
    servicer = RateLimitServicer(limiter)

    def add(server: grpc.aio.Server) -> None:
        # The stubs of services are generated without types.
        rls_pb2_grpc.add_RateLimitServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

    server = add_grpc_server(
        lifecycle,
        settings,
        services=[(add, SERVICE)],
        clock=clock,
        registry=_figures(limiter),
    )
    return LimiterProcess(lifecycle, server)


def _figures(limiter: Limiter) -> CollectorRegistry:
    registry = new_registry()
    LimiterCollector(registry, limiter)
    return registry
