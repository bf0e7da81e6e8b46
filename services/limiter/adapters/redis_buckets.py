"""Buckets in Redis, or anything that speaks its protocol: one number for each caller that calls."""

import asyncio

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.limiter.domain.buckets import Decision, Limit, bucket_of

log = get_logger(__name__)

TIMEOUT_S = 0.08
"""Within the time that gateways wait for the limiter."""
_REST_S = 1.0
"""How long a Redis that failed is left alone: whoever calls meanwhile is let through at once."""
_CONNECTIONS_MAX = 32

# The same as domain.buckets.decide; a contract test holds one against the other. By the clock of Redis, which is one
# for all gateways. In microseconds, which are whole numbers: Redis would cut the fraction of what a script returns.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local token, full, hits = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = tonumber(redis.call('GET', KEYS[1]) or now)
if kept < now then kept = now end
local ahead = kept + token * hits - now
if ahead <= full + 1 then
  local next = kept + token * hits
  redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil(ahead / 1000) + 1)
  return {1, string.format('%.0f', next), '0'}
end
return {0, string.format('%.0f', kept), string.format('%.0f', ahead - full)}
"""


class RedisBuckets:
    """A `BucketStore`. Raises INVALID_FIELD where `url` is no URL of a Redis."""

    def __init__(self, url: str, *, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._rests_until_s = float("-inf")
        try:
            self._client = Redis.from_url(
                url,
                protocol=2,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                max_connections=_CONNECTIONS_MAX,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            raise MeshError(
                Reason.INVALID_FIELD,
                "INFERMESH_LIMITER_REDIS_URL is no URL; allowed: redis://[user:password@]host[:port][/database], "
                "rediss:// for TLS, unix:///path",
                metadata={"field": "redis_url"},
            ) from None
        self._take = self._client.register_script(_TAKE)

    async def take(self, key: str, limit: Limit, hits: int) -> Decision:
        """Lets a call through or not."""
        if self._clock.monotonic() < self._rests_until_s:
            raise _away()
        arguments = [f"{limit.token_s * 1e6:.6f}", f"{limit.full_s * 1e6:.6f}", f"{min(hits, limit.burst):.6f}"]
        try:
            async with asyncio.timeout(self._timeout_s):
                allowed, full_at, after = await self._take(keys=[f"limit:{bucket_of(key, limit)}"], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._rests_until_s = self._clock.monotonic() + _REST_S
            # The kind alone: texts of connection errors may name the address with its password.
            log.warning("Redis is left alone for a while; callers are let through", kind=type(error).__name__)
            raise _away() from None
        return Decision(bool(allowed), int(full_at) / 1e6, int(after) / 1e6)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def _away() -> MeshError:
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE, "the store of rate limits does not answer; see whether Redis runs and try again"
    )
