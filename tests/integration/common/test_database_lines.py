"""How long services wait for a database whose host is gone without a word, and it for a service that stands still."""

import os
import socket
import sys

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.common.database import create_engine


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds how long TCP waits for an acknowledgement")
async def test_the_kernel_gives_a_silent_host_up_soon(database_url: str) -> None:
    engine = create_engine(database_url, schema="public", pool_size=1)
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            assert line.family in (socket.AF_INET, socket.AF_INET6)
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            # Idle for so long, then probed: three times without an answer are the end.
            idle, between, probes = (
                line.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + between * probes <= 20
    await engine.dispose()


async def test_who_stands_still_in_a_transaction_keeps_nothing_locked_for_good(database_url: str) -> None:
    still, other = (create_engine(database_url, schema="public", pool_size=1) for _ in range(2))
    async with still.connect() as standing, other.connect() as going:
        assert (await standing.execute(text("SHOW idle_in_transaction_session_timeout"))).scalar_one() == "10s"
        await standing.execute(text("SET idle_in_transaction_session_timeout = '100ms'"))
        await standing.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        # Within its own limit of time for a statement, which is longer than anybody may stand still.
        await going.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        with pytest.raises(DBAPIError):
            await standing.execute(text("SELECT 1"))
    await still.dispose()
    await other.dispose()
