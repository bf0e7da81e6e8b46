"""Counts what deployments are asked for whose replicas a forecast shall precede, and keeps it.

Rates come from what batchers tell, looked at by the reconcile loop; nothing of it is on the path of a prediction. What
was counted is stored once a minute, so a deployer that is killed loses a minute of it at most.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.forecast import RECENT_BUCKETS
from services.deployer.domain.history import BUCKET_S, KEEP_DAYS, Bucket, Key, bucket_start
from services.deployer.engines.demand import Demand
from services.deployer.ports import RequestHistoryStore

log = get_logger(__name__)

WRITE_EVERY_S = 60.0
_PRUNE_EVERY = 60
"""Once in so many writes, an hour, what is too old is removed."""
_UNSEEN_S = 10.0
"""What lies longer between two looks is not known."""
_KEEP_UNWRITTEN = timedelta(days=1)


class RequestHistory:
    """Call `look` at each look of the loop, `decided` at each decision, and let `run` store it."""

    def __init__(self, *, store: RequestHistoryStore, demand: Demand, clock: Clock) -> None:
        self._store = store
        self._demand = demand
        self._clock = clock
        self._looked_s: dict[Key, float] = {}
        self._unwritten: dict[tuple[Key, datetime], Bucket] = {}
        self._recent: dict[Key, dict[datetime, Bucket]] = {}

    def look(self, deployments: Iterable[Deployment]) -> None:
        """Counts what these are asked for now, for the time since the last look; forgets all others."""
        versions: dict[Key, list[tuple[str, str]]] = {}
        for one in deployments:
            if counted(one):
                versions.setdefault(key_of(one), []).append((one.new.model_name, one.new.version))
        now_s, start = self._clock.monotonic(), bucket_start(self._clock.now())
        for key, names in versions.items():
            elapsed_s = now_s - self._looked_s.get(key, now_s)
            loads = [load for name in names if (load := self._demand.load(name)) is not None]
            if len(loads) == len(names) and 0 < elapsed_s <= _UNSEEN_S:
                rate = sum(load.requests_per_s for load in loads)
                self._add(key, Bucket(start, known_s=elapsed_s, requests=rate * elapsed_s))
        self._looked_s = dict.fromkeys(versions, now_s)
        self._recent = {key: recent for key, recent in self._recent.items() if key in versions}

    def decided(self, deployment: Deployment, per_replica: float, *, short: bool) -> None:
        """A replica answers so many requests per second; `short`: that are fewer replicas than the targets ask for."""
        if counted(deployment):
            start = bucket_start(self._clock.now())
            bucket = Bucket(
                start, version=deployment.new.version, decisions=1, short=int(short), per_replica=per_replica
            )
            self._add(key_of(deployment), bucket)

    def recent(self, key: Key) -> Mapping[datetime, float]:
        """Requests per second in the buckets that have passed of late, as far as they are known."""
        until = bucket_start(self._clock.now())
        since = until - timedelta(seconds=RECENT_BUCKETS * BUCKET_S)
        buckets = self._recent.get(key, {}).values()
        return {
            one.started_at: rate
            for one in buckets
            if since <= one.started_at < until and (rate := one.rate) is not None
        }

    async def run(self) -> None:
        """Stores what was counted, for as long as it runs."""
        writes = 0
        while True:
            await self._clock.sleep(WRITE_EVERY_S)
            await self.write()
            if writes % _PRUNE_EVERY == 0:
                await self._prune()
            writes += 1

    async def write(self) -> None:
        """Stores what was counted since the last time."""
        taken, self._unwritten = self._unwritten, {}
        buckets: dict[Key, list[Bucket]] = {}
        for (key, _), bucket in taken.items():
            buckets.setdefault(key, []).append(bucket)
        try:
            if buckets:
                await self._store.add(buckets)
        except BaseException as error:
            # Also where it is cancelled. What was stored all the same is stored twice then, which changes no rate.
            oldest = self._clock.now() - _KEEP_UNWRITTEN
            for (key, start), bucket in taken.items():
                if start >= oldest:
                    self._note(key, bucket)
            if not isinstance(error, MeshError):
                raise
            log.warning("what was asked for is not stored yet", error=error.message)

    async def _prune(self) -> None:
        try:
            await self._store.prune(self._clock.now() - timedelta(days=KEEP_DAYS, hours=1))
        except MeshError as error:
            log.warning("old counts of requests are not removed yet", error=error.message)

    def _add(self, key: Key, bucket: Bucket) -> None:
        self._note(key, bucket)
        recent = self._recent.setdefault(key, {})
        start = bucket.started_at
        recent[start] = recent[start].plus(bucket) if start in recent else bucket
        while len(recent) > RECENT_BUCKETS + 1:
            recent.pop(min(recent))

    def _note(self, key: Key, bucket: Bucket) -> None:
        place = (key, bucket.started_at)
        before = self._unwritten.get(place)
        self._unwritten[place] = before.plus(bucket) if before is not None else bucket


def key_of(deployment: Deployment) -> Key:
    """Whose history it is."""
    return deployment.new.model_name, deployment.new.deployment_name


def counted(deployment: Deployment) -> bool:
    """Whether what it is asked for is counted."""
    scaling = deployment.wish.autoscaling
    return scaling is not None and scaling.enabled and scaling.predictive and not deployment.deleting
