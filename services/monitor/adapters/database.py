"""What all PostgreSQL adapters share: a database that does not answer is a failure that callers understand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.errors import CheckViolation
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason

SCHEMA = "monitor"


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction. Raises DEPENDENCY_UNAVAILABLE where the database is away, restarting or too slow."""
    try:
        async with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        # A day without its partition is refused as a violated check; the partitions' keeper will make it.
        if error.connection_invalidated or isinstance(error.orig, CheckViolation):
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> MeshError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the monitor's database cannot do this now ({first_line}); see whether PostgreSQL runs and try again",
        retry_after_s=2.0,
    )
