"""How the router reaches PostgreSQL: its schema, one transaction a call, failures as the mesh's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.clock import Clock
from services.common.database import migrate
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

SCHEMA = "router"
_RETRY_S = 0.25


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction. Raises DEPENDENCY_UNAVAILABLE where the database does not answer."""
    try:
        async with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise _away() from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _away() from error
        raise


async def migrate_patiently(url: str, *, clock: Clock, patience_s: float) -> None:
    """Migrates; waits up to `patience_s` seconds for a database that is only just starting too."""
    deadline_s = clock.monotonic() + patience_s
    while True:
        try:
            return await migrate(url, service=SCHEMA)
        except OperationalError:
            if clock.monotonic() > deadline_s:
                raise
            log.warning("the database does not answer yet; it is tried again", again_in_s=_RETRY_S)
        await clock.sleep(_RETRY_S)


def _away() -> MeshError:
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "the router's database does not answer; traffic goes on as it is, try the change again",
        retry_after_s=1.0,
    )
