"""Decides, look by look, which servers of the pool each deployment shall be on, and which make room for others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.telemetry.logging import get_logger
from services.deployer.domain.berth import Berth
from services.deployer.domain.deployment import Deployment, Status
from services.deployer.domain.eviction import Tenant
from services.deployer.domain.placement import Placement, Server, copies_of, place, spread_of
from services.deployer.domain.plan import Observation, ServerState, sleeps_on
from services.deployer.engines.demand import DECAY_S, Demand
from services.deployer.engines.memories import Memories

log = get_logger(__name__)

PATIENCE_S = 3.0
"""A server that is away for longer is not counted on: others take over its versions. A restart takes two seconds."""
_LOAD_TIME_MIN_S, _LOAD_TIME_MAX_S = 0.05, 60.0
"""Loads are taken to last so long. The first one may have waited for an environment to be built."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What limits the pool."""

    limits_bytes: Mapping[str, float]
    """What each server may take of the memory, its models included; those without have no limit."""
    drain_s: float
    """For how long a server that is not published for a version any more still gets requests for it."""


class Pool:
    """What was decided is kept in memory alone: after a restart versions are where they were proven."""

    def __init__(
        self, servers: Collection[str], *, demand: Demand, memories: Memories, clock: Clock, options: PoolOptions
    ) -> None:
        self._servers = tuple(servers)
        self._demand = demand
        self._memories = memories
        self._clock = clock
        self._options = options
        self._away_s: dict[str, float] = {}
        """Since when servers have been away."""
        self._decided = Placement({})
        self._names: dict[str, str] = {}
        self._halted: frozenset[str] = frozenset()
        self._held: dict[str, frozenset[str]] = {}
        """The servers in which each server model is ready."""
        self._absents: dict[int, Berth] = {}
        self._answers_s: dict[str, float] = {}
        """Since when deployments have answered where they shall."""
        self._stray_s: dict[tuple[str, str], float] = {}
        """Since when a server has held a deployment that is neither published nor wished there."""

    def decide(self, deployments: Sequence[Deployment], observed: Observation, busy: Collection[str]) -> None:
        """Decides anew. What is `busy` (ids) is left as it is: something is being done with it."""
        now_s = self._clock.monotonic()
        self._see(observed, now_s)
        self._names = {one.deployment_id: one.server_model_name for one in deployments}
        self._halted = frozenset(one.deployment_id for one in deployments if one.halted)
        there = [name for name in self._servers if now_s - self._away_s.get(name, now_s) < PATIENCE_S]
        tenants = [self._tenant(one, busy, now_s) for one in deployments if self._concerns(one)]
        if there:
            servers = [Server(name, self._limit(name)) for name in there]
            self._tell(decided := place(servers, tenants))
            self._decided = decided
        else:
            # None to go to: they are loaded again where they were.
            self._decided = Placement({one.key: one.places for one in tenants if one.awake and one.places})
        self._drain(deployments, busy, now_s)

    def berth(self, deployment: Deployment) -> Berth:
        """What was decided for a deployment."""
        key, decided = deployment.deployment_id, self._decided
        if key not in decided.places and key not in decided.evicted and key not in decided.short and not self._stray_s:
            return self._absent(deployment.replicas)
        servers = len(self._servers)
        return Berth(
            servers=frozenset(decided.places.get(key, ())),
            spread=spread_of(deployment.replicas, servers),
            copies=copies_of(deployment.replicas, servers),
            drained=self._drained(deployment),
            evicted=self._words(decided.evicted[key]) if key in decided.evicted else None,
            short=decided.short.get(key),
        )

    def _absent(self, replicas: int) -> Berth:
        """Of what is on no server."""
        known = self._absents.get(replicas)
        if known is None:
            servers = len(self._servers)
            known = Berth(frozenset(), spread_of(replicas, servers), copies_of(replicas, servers))
            self._absents[replicas] = known
        return known

    def concerned(self, deployment: Deployment) -> Sequence[str]:
        """The servers that a deployment shall be on, is held by, or is published on. What sleeps is on none."""
        progress = deployment.progress
        shall = self._decided.places.get(deployment.deployment_id, ())
        held = self._held.get(deployment.server_model_name, ())
        published = progress.loaded if progress.asleep_since is None else ()
        if not (shall or held or published):
            return ()
        wanted = {*shall, *held, *published}
        return [name for name in self._servers if name in wanted]

    def _see(self, observed: Observation, now_s: float) -> None:
        held: dict[str, set[str]] = {}
        for name in self._servers:
            state = observed.get(name, ServerState())
            if state.up:
                self._away_s.pop(name, None)
            else:
                self._away_s.setdefault(name, now_s)
            self._memories.keep(name, state.ready)
            for model in state.ready:
                held.setdefault(model, set()).add(name)
        self._held = {model: frozenset(names) for model, names in held.items()}

    def _concerns(self, deployment: Deployment) -> bool:
        """Whether it takes memory, or is about to: of thousands that sleep nearly none. What others run does not."""
        if deployment.wish.external is not None:
            return False
        return self._awake(deployment) or deployment.server_model_name in self._held

    def _awake(self, deployment: Deployment) -> bool:
        progress = deployment.progress
        if deployment.deleting or deployment.halted or deployment.successor in self._halted:
            return False
        if progress.asleep_since is not None and sleeps_on(deployment, asked=self._demand.wanted(_name(deployment))):
            return False
        if progress.loaded and progress.asleep_since is None:
            return True
        # What cannot be loaded holds nothing until it is tried again.
        if progress.next_attempt_at is not None:
            return progress.next_attempt_at <= self._clock.now()
        return progress.status is not Status.FAILED or progress.observed_generation != deployment.generation

    def _tenant(self, deployment: Deployment, busy: Collection[str], now_s: float) -> Tenant:
        progress, key, name = deployment.progress, deployment.deployment_id, _name(deployment)
        copies = copies_of(deployment.replicas, len(self._servers))
        awake, held = self._awake(deployment), self._held.get(deployment.server_model_name, frozenset())
        places = self._places(deployment) if awake else ()
        answers = awake and bool(places) and held.issuperset(places) and progress.asleep_since is None
        if not answers:
            self._answers_s.pop(key, None)
        idle_s, asked = self._demand.since_s(name), self._demand.wanted(name)
        # One who waits has asked, though no batcher has told yet.
        requests_per_s = max(self._demand.rate_per_s(name), 1 / DECAY_S if asked else 0.0)
        return Tenant(
            key,
            size_bytes=self._memories.replica_bytes(deployment, copies) * copies,
            spread=spread_of(deployment.replicas, len(self._servers)),
            awake=awake,
            places=places,
            held=held,
            pinned=deployment.pinned,
            evictable=answers and key not in busy and _is_settled(deployment),
            urgent=asked and progress.asleep_since is not None,
            load_time_s=min(_LOAD_TIME_MAX_S, max(_LOAD_TIME_MIN_S, progress.load_time_ms / 1000)),
            requests_per_s=requests_per_s,
            age_s=now_s - self._answers_s.setdefault(key, now_s) if answers else 0.0,
            idle_s=idle_s,
            waits_s=self._demand.waits_s(name),
        )

    def _places(self, deployment: Deployment) -> tuple[str, ...]:
        before = self._decided.places.get(deployment.deployment_id)
        if before is not None:
            return before
        # The first look since the start. What is being woken may go anywhere.
        progress = deployment.progress
        proven = progress.loaded if progress.asleep_since is None else ()
        return tuple(name for name in self._servers if name in proven)

    def _limit(self, server: str) -> float:
        limit = self._options.limits_bytes.get(server)
        return max(0.0, limit - self._memories.bare_bytes(server)) if limit is not None else float("inf")

    def _drain(self, deployments: Sequence[Deployment], busy: Collection[str], now_s: float) -> None:
        strays: dict[tuple[str, str], float] = {}
        for one in deployments:
            held = self._held.get(one.server_model_name)
            progress = one.progress
            if held is None or one.deployment_id in busy or one.deleting or one.halted or one.wish.external is not None:
                continue
            if progress.asleep_since is not None or progress.withdrawn_at is not None:
                continue
            places = self._decided.places.get(one.deployment_id, ())
            for name in held.difference(places, progress.loaded):
                key = (one.deployment_id, name)
                strays[key] = self._stray_s.get(key, now_s)
        self._stray_s = strays

    def _drained(self, deployment: Deployment) -> tuple[str, ...]:
        if not self._stray_s:
            return ()
        key, until_s = deployment.deployment_id, self._clock.monotonic() - self._options.drain_s
        return tuple(one for one in self._servers if self._stray_s.get((key, one), until_s + 1) <= until_s)

    def _tell(self, decided: Placement) -> None:
        for key, places in decided.places.items():
            before = self._decided.places.get(key)
            if before is not None and before != places:
                log.info("moves", deployment=self._names[key], before=before, to=places)

    def _words(self, other: str) -> str:
        return f"it made room for {self._names[other]}" if other else "it made room for what is loaded next"


def _is_settled(deployment: Deployment) -> bool:
    progress = deployment.progress
    return (
        progress.status is Status.ACTIVE
        and (progress.traffic_routed or bool(deployment.successor))
        and progress.observed_generation == deployment.generation
        and progress.next_attempt_at is None
    )


def _name(deployment: Deployment) -> tuple[str, str]:
    return deployment.new.model_name, deployment.new.version
