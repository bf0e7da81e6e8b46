"""Fixtures that all tests share: real PostgreSQL and Redis, started once a session, and logs that must stay quiet."""

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx._transports.default
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from services.common.clock import SystemClock
from services.supervisor import ports
from services.supervisor.parts.part import Part
from services.supervisor.parts.postgres import USER, postgres_part, read_password
from services.supervisor.parts.postgres import database_url as url_of
from services.supervisor.parts.valkey import valkey_part
from services.supervisor.process import Process
from tests.support.parts import free_port

# How long an example takes says more of the machine's other work than of the code; pytest's timeout bounds the whole.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Where CI is set, every run tries the same examples, so that it judges the change and not the day; others explore.
settings.register_profile("repeatable", settings.get_profile("shared machine"), derandomize=True)
settings.load_profile("repeatable" if os.environ.get("CI") else "shared machine")

# Each client of httpx reads the certificates of all authorities, which takes 20 ms of CPU, though next to none here
# speaks TLS. Read once, they are there for all clients of a process.
_transports = httpx._transports.default
_transports.create_ssl_context = functools.cache(_transports.create_ssl_context)  # type: ignore[attr-defined]

_UNSAFE_AND_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # To drop a database, all processes of the server must have heard of it; those that read for others have slept
    # through it, once in some thousand databases, for a minute.
    "io_method": "sync",
}
_DROPPED_WITHIN_MS = 15_000


def pytest_configure() -> None:
    """Gives each process of a run ports of its own: while a part is killed and started again, no other test may find
    its port free. Meshes that are started as `make run` does choose among all."""
    name, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if name:
        ports.CANDIDATES = ports.CANDIDATES[int(name.removeprefix("gw")) :: count]


class _Held:
    """A part that a synchronous, session-wide fixture holds: its loop runs only while it starts and stops."""

    def __init__(self, part: Part) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = self._loop.run_until_complete(self._start(part))

    async def _start(self, part: Part) -> Process:
        process = await Process.start(part, clock=SystemClock())
        try:
            await process.wait_ready()
        except BaseException:
            await process.stop()
            raise
        return process

    def stop(self) -> None:
        """Stops the part and closes the loop."""
        self._loop.run_until_complete(self._process.stop())
        self._loop.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """Port and password of a real PostgreSQL."""
    folder = _open_folder(tmp_path_factory.mktemp("postgres"))
    port = free_port()
    part = postgres_part(
        port=port, data_dir=folder / "data", log_path=folder / "postgres.log", options=_UNSAFE_AND_QUICK
    )
    held = _Held(part)
    yield port, read_password(folder / "data")
    held.stop()


@pytest.fixture
def database_url(postgres_server: tuple[int, str]) -> Iterator[str]:
    """The URL of a new, empty database on the session's PostgreSQL."""
    port, password = postgres_server
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(
        host="127.0.0.1", port=port, user=USER, password=password, dbname="postgres", autocommit=True
    ) as connection:
        # Without fsync a copy of the files takes half as long as one that is written to the log.
        connection.execute(sql.SQL("CREATE DATABASE {} STRATEGY file_copy").format(sql.Identifier(name)))
        yield url_of(port=port, password=password, database=name)
        connection.execute(sql.SQL("SET statement_timeout = {}").format(_DROPPED_WITHIN_MS))
        # One that stays goes with the server at the end of the session.
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey."""
    folder = tmp_path_factory.mktemp("redis")
    port = free_port()
    held = _Held(valkey_part(port=port, data_dir=folder, log_path=folder / "redis.log"))
    yield f"redis://127.0.0.1:{port}/0"
    held.stop()


@pytest.fixture(autouse=True)
def _no_unexpected_error_logs(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """A log of level ERROR that the test did not announce with the marker `logs_errors` fails it."""
    yield
    if request.node.get_closest_marker("logs_errors"):
        return
    said = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    errors = [record.getMessage() for record in said if not _late_for_another_test(record)]
    assert not errors, f"unexpected errors in the log: {errors}"


def _late_for_another_test(record: logging.LogRecord) -> bool:
    """gRPC has one queue for all event loops of a process: what it hears for a test that has ended finds its loop
    closed, and is logged in the test that runs by then."""
    error = record.exc_info[1] if record.exc_info else None
    heard = "Exception in callback PollerCompletionQueue._handle_events" in record.getMessage()
    return heard and isinstance(error, RuntimeError) and str(error) == "Event loop is closed"


def _open_folder(folder: Path) -> Path:
    """`folder`, reachable by the user as whom PostgreSQL runs where the tests run as root."""
    for path in (folder, *folder.parents):
        if path.name.startswith("pytest-"):
            subprocess.run(["chmod", "o+x", str(path)], check=True)
    return folder
