"""What all PostgreSQL adapters share: a database that does not answer is a failure that callers understand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason

SCHEMA = "registry"


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction. Raises DEPENDENCY_UNAVAILABLE where the database is away, restarting or too slow."""
    try:
        async with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> MeshError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the registry's database does not answer ({first_line}); see whether PostgreSQL runs and try again",
        retry_after_s=2.0,
    )
