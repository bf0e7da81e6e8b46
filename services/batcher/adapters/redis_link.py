"""A connection to Redis, or anything that speaks its protocol, that a background task keeps up.

Nobody who waits for a prediction connects or probes. While the connection is away, whoever would use it does without.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.batcher.domain.breaker import Breaker
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_CONNECT_TIMEOUT_S = 1.0
_PROTOCOL = 2
"""RESP2: every Redis and Valkey speaks it."""


class RedisLink:
    """One connection: made, probed, used until it fails, and made again after a time that grows.

    Raises INVALID_FIELD where `url` is no URL of a Redis.
    """

    def __init__(self, name: str, url: str, *, clock: Clock, on_error: Callable[[], None]) -> None:
        _check(url)
        self._name = name
        self._url = url
        self._clock = clock
        self._on_error = on_error
        self._breaker = Breaker()

    @property
    def up(self) -> bool:
        """Whether it may be used."""
        return not self._breaker.open

    async def run(self, use: Callable[[Redis], Awaitable[None]], failed: Callable[[], None]) -> None:
        """Keeps it up for ever; `use` returns by raising, then `failed` is told."""
        while True:
            client = _client(self._url)
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    await client.execute_command("PING")  # type: ignore[no-untyped-call]
                self._breaker.probed()
                log.info("Redis is used", connection=self._name)
                await use(client)
            except (RedisError, OSError, TimeoutError) as error:
                self._on_error()
                delay_s = self._breaker.failed(self._clock.monotonic())
                failed()
                # The kind alone: texts of connection errors may name the address with its password.
                log.warning(
                    "Redis is left alone for a while",
                    connection=self._name,
                    kind=type(error).__name__,
                    delay_s=delay_s,
                )
            finally:
                with suppress(RedisError, OSError, TimeoutError):
                    await client.aclose()
            await self._clock.sleep(delay_s)


def _client(url: str) -> Redis:
    """A client with one connection, which never tries again by itself."""
    return Redis.from_url(
        url,
        protocol=_PROTOCOL,
        single_connection_client=True,
        socket_timeout=None,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _check(url: str) -> None:
    """Raises INVALID_FIELD where it is no URL of a Redis; what it holds is not shown, for it may be a password."""
    try:
        _client(url)
    except ValueError:
        raise MeshError(
            Reason.INVALID_FIELD,
            "INFERMESH_BATCHER_REDIS_URL is no URL; allowed: redis://[user:password@]host[:port][/database], "
            "rediss:// for TLS, unix:///path, or nothing: predictions are then kept in memory alone, "
            "and no features are found",
            metadata={"field": "redis_url"},
        ) from None
