"""How the part of the registry is put together that keeps history: changes, lineage, removals."""

from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import peer_tls
from services.common.lifecycle import Lifecycle
from services.common.signals import Signal
from services.registry.adapters.change_feed import ChangeFeed
from services.registry.adapters.deployer import GrpcDeploymentBook
from services.registry.adapters.postgres_changes import PostgresChangeLog
from services.registry.adapters.postgres_lineage import PostgresLineageBook
from services.registry.adapters.postgres_removed import PostgresRemovals
from services.registry.engines.following import Following
from services.registry.engines.lineage import Tracing
from services.registry.engines.reading import Reading
from services.registry.engines.removing import Removing
from services.registry.engines.sharing import Sharing
from services.registry.servicers.history import History
from services.registry.settings import RegistrySettings


def build_history(
    lifecycle: Lifecycle,
    settings: RegistrySettings,
    engine: AsyncEngine,
    *,
    reading: Reading,
    sharing: Sharing,
    clock: Clock,
) -> History:
    """History over the database and the deployer. Add the database to the lifecycle before, and after the server what
    closes `following`."""
    told = Signal()
    following = Following(log=PostgresChangeLog(engine), told=told, clock=clock, followers_max=settings.followers_max)
    feed = ChangeFeed(settings.database_url.get_secret_value(), tell=told.fire, clock=clock)
    deployer = open_channel(settings.deployer_address, tls=peer_tls(settings))
    removing = Removing(
        removals=PostgresRemovals(engine), deployments=GrpcDeploymentBook(deployer), reading=reading, clock=clock
    )
    lifecycle.add("channel to deployer", stop=deployer.close)
    lifecycle.add_task("word of changes", feed.run)
    lifecycle.add_task("removals", removing.run)
    return History(following, Tracing(PostgresLineageBook(engine), reading=reading), removing, sharing)
