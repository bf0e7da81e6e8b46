"""How what the router asks of deployer and registry is put together, beside what is ready."""

import grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.lifecycle import Lifecycle
from services.router.adapters.deployer import GrpcDeployments
from services.router.adapters.registry import RegistryAliasSource
from services.router.adapters.spec_store import PostgresSpecStore
from services.router.engines.aliases import AliasFollower
from services.router.engines.publisher import Publisher
from services.router.engines.redeploy import Redeploy
from services.router.settings import RouterSettings


def new_redeploy(
    settings: RouterSettings, *, engine: AsyncEngine, publisher: Publisher, deployer: grpc.aio.Channel, clock: Clock
) -> Redeploy:
    """What brings versions back; its task is added by `add_followers`."""
    return Redeploy(
        deployments=GrpcDeployments(deployer),
        specs=PostgresSpecStore(engine),
        publisher=publisher,
        clock=clock,
        patience_s=settings.redeploy_patience_s,
    )


def add_followers(
    lifecycle: Lifecycle,
    settings: RouterSettings,
    *,
    redeploy: Redeploy,
    publisher: Publisher,
    registry: grpc.aio.Channel,
    clock: Clock,
) -> None:
    """Adds what notes how versions are deployed, and what follows the registry's aliases."""
    aliases = AliasFollower(
        source=RegistryAliasSource(registry), publisher=publisher, clock=clock, period_s=settings.aliases_period_s
    )
    lifecycle.add_task("how versions are deployed", redeploy.run)
    lifecycle.add_task("aliases", aliases.run)
