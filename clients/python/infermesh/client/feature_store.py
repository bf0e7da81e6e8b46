"""Writing and reading the rows of feature views in Redis, from where batchers add them to requests.

A hash for each entity, `features:{entity}={id}`, and `features:{team}/{entity}={id}` where a team owns the model. Its
fields are the views' names, each value the JSON object `{"at": <Unix seconds>, "features": {<name>: <value>}}`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import grpc
from infermesh.client.errors import InfermeshError

if TYPE_CHECKING:
    from redis import Redis

STORE_DEFAULT = "redis://127.0.0.1:8131/0"
"""Where the mesh on this machine has it."""
TTL_DEFAULT_S = 300
TIMEOUT_DEFAULT_S = 10.0
_PIPELINE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """Values of one view for one entity. `at_s` is the Unix second since when they hold; None: now, by its clock."""

    entity_id: str
    features: Mapping[str, object]
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class StoredFeatures:
    """What is stored: since when it holds, how old that is, and how long it stays; None: for good."""

    features: Mapping[str, object]
    at_s: float
    age_s: float
    left_s: float | None


class FeatureStore:
    """A connection to the store; use it as a context manager, or close it. Every method raises InfermeshError."""

    def __init__(self, url: str = STORE_DEFAULT, *, team: str = "", timeout_s: float = TIMEOUT_DEFAULT_S) -> None:
        self._team = team
        self._redis = _connect(url, timeout_s)

    def put(self, view: str, entity: str, rows: Iterable[FeatureRow], *, ttl_s: int = TTL_DEFAULT_S) -> int:
        """Writes rows of a view; how many. A hash stays for `ttl_s` seconds at least, 0 for good; other views of the
        entity stay what they are."""
        written = 0
        with _Failures():
            now_s = self._now_s()
            left = iter(rows)
            while part := list(islice(left, _PIPELINE_ROWS)):
                pipeline = self._redis.pipeline(transaction=False)
                for row in part:
                    key = row_key(entity, row.entity_id, team=self._team)
                    at_s = now_s if row.at_s is None else row.at_s
                    value = json.dumps({"at": at_s, "features": dict(row.features)}, allow_nan=False)
                    pipeline.hset(key, view, value)
                    if ttl_s:
                        # Never shortens what another writer asked for.
                        pipeline.expire(key, ttl_s, nx=True)
                        pipeline.expire(key, ttl_s, gt=True)
                    else:
                        pipeline.persist(key)
                pipeline.execute()
                written += len(part)
        return written

    def get(self, entity: str, entity_id: str) -> Mapping[str, StoredFeatures]:
        """What is stored of an entity, by view; fields that are no rows are left out."""
        key = row_key(entity, entity_id, team=self._team)
        with _Failures():
            now_s = self._now_s()
            fields = cast("Mapping[bytes, bytes]", self._redis.hgetall(key))
            left_ms = self._redis.pttl(key)
        left_s = left_ms / 1000 if left_ms >= 0 else None
        return dict(_stored(fields, now_s, left_s))

    def delete(self, entity: str, entity_id: str, *views: str) -> int:
        """Forgets views of an entity, all of them where none is named; how many there were."""
        key = row_key(entity, entity_id, team=self._team)
        with _Failures():
            return self._redis.hdel(key, *(views or self._redis.hkeys(key) or ("",)))

    def close(self) -> None:
        """Ends the connection."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _now_s(self) -> float:
        """The store's own clock: all who write to one store agree on it."""
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1_000_000


def row_key(entity: str, entity_id: str, *, team: str = "") -> str:
    """The key of an entity's hash."""
    return f"features:{team}/{entity}={entity_id}" if team else f"features:{entity}={entity_id}"


def _stored(fields: Mapping[bytes, bytes], now_s: float, left_s: float | None) -> Iterator[tuple[str, StoredFeatures]]:
    for name, value in sorted(fields.items()):
        try:
            row = json.loads(value)
            at_s = float(row["at"])
            yield name.decode(), StoredFeatures(dict(row["features"]), at_s, now_s - at_s, left_s)
        except (ValueError, KeyError, TypeError):
            continue


def _connect(url: str, timeout_s: float) -> "Redis":
    try:
        from redis import Redis  # noqa: PLC0415 - only who writes features needs it
    except ImportError:
        raise InfermeshError(
            "writing features needs the package redis",
            code=grpc.StatusCode.FAILED_PRECONDITION,
            reason="FEATURE_STORE_UNAVAILABLE",
            advice="Install it: pip install redis",
        ) from None
    try:
        return Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, protocol=2)
    except ValueError:
        raise InfermeshError(
            "the store's URL is none",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="INVALID_FIELD",
            advice="Give redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix:///path.",
        ) from None


class _Failures:
    """Turns what Redis raises into InfermeshError."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from redis.exceptions import OutOfMemoryError, RedisError  # noqa: PLC0415 - as above

        if isinstance(error, OutOfMemoryError):
            raise InfermeshError(
                "the feature store's memory is full: of the rows of this call some may be written and others not; "
                "all that was there is there",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                reason="FEATURE_STORE_UNAVAILABLE",
                advice="Give rows a shorter time to live (--ttl), or the store more memory: "
                "INFERMESH_FEATURE_MEMORY_MB for `make run`, maxmemory of a Redis of your own.",
            ) from error
        if isinstance(error, RedisError | OSError):
            raise InfermeshError(
                f"the feature store did not take it: {error}",
                code=grpc.StatusCode.UNAVAILABLE,
                reason="FEATURE_STORE_UNAVAILABLE",
                advice="Name its Redis with --store or INFERMESH_FEATURE_STORE, as in redis://127.0.0.1:8131/0; the "
                "port of a mesh on this machine is in its data folder, in mesh.json: ports.redis.",
            ) from error
        if isinstance(error, ValueError | TypeError):
            raise InfermeshError(
                f"a value has no JSON form: {error}",
                code=grpc.StatusCode.INVALID_ARGUMENT,
                reason="INVALID_FIELD",
                advice="Use texts, finite numbers, true, false, and lists of them.",
            ) from error
