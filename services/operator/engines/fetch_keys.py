"""Keeps in each team's namespace a key by which its replicas fetch: one that can only read, and that ends."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from services.common.body import Body, namespace_of
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.operator.domain.applying import holds
from services.operator.domain.fetch_key import FetchKey, key_in, may_make, secret_manifest, why_another
from services.operator.domain.manifests.team import Team
from services.operator.domain.names import FETCH_SECRET
from services.operator.ports import Cluster, FetchKeys

log = get_logger(__name__)

_REMEMBERED = 8


class FetchKeyKeeper:
    """`keep` is called now and then. One call to the API server tells whether all is well."""

    def __init__(
        self,
        *,
        keys: FetchKeys,
        cluster: Cluster,
        clock: Clock,
        life: timedelta,
        authorities: Callable[[], Awaitable[str]],
    ) -> None:
        """`authorities`: whose certificates of gateways are believed, in PEM; empty: nobody has to be told."""
        self._keys = keys
        self._cluster = cluster
        self._clock = clock
        self._life = life
        self._authorities = authorities
        self._made_at_s: dict[str, deque[float]] = {}

    async def keep(self, teams: Sequence[Team]) -> None:
        """Makes the keys that are wanting. Raises MeshError where somebody is away; what the cluster or the registry
        refuses to one team is logged."""
        if not teams:
            return
        there = {namespace_of(one): one for one in await self._cluster.named("Secret", FETCH_SECRET)}
        authorities = await self._authorities()
        for team in teams:
            try:
                await self._keep(team, there.get(team.namespace), authorities)
            except MeshError as error:
                if error.retry_after_s is not None:
                    raise
                log.warning("a team's replicas cannot fetch", team=team.name, error=error.message)
        self._made_at_s = {team.name: self._made_at_s[team.name] for team in teams if team.name in self._made_at_s}

    async def _keep(self, team: Team, there: Body | None, authorities: str) -> None:
        key = key_in(there, team)
        why = why_another(key, now=self._clock.now(), life=self._life, revoked=self._keys.revoked)
        if key is not None and not why:
            manifest = secret_manifest(team, key, authorities=authorities)
            if not holds(there, manifest):
                await self._cluster.apply(manifest)
            return
        made_at_s = self._made_at_s.setdefault(team.name, deque(maxlen=_REMEMBERED))
        if not may_make(made_at_s, self._clock.monotonic()):
            log.warning("a team's key goes again and again; it gets the next one later", team=team.name, why=why)
            return
        await self._another(team, why, authorities, made_at_s)

    async def _another(self, team: Team, why: str, authorities: str, made_at_s: deque[float]) -> None:
        ends_at = (self._clock.now() + self._life).replace(microsecond=0)
        # Where the cluster would not take it, none is made.
        unmade = FetchKey("none", "none", ends_at)
        await self._cluster.apply(secret_manifest(team, unmade, authorities=authorities), dry_run=True)
        made_at_s.append(self._clock.monotonic())
        key = await self._keys.make(team.name, ends_at=ends_at)
        try:
            await self._cluster.apply(secret_manifest(team, key, authorities=authorities))
        except MeshError:
            await self._lost(team, key)
            raise
        log.info("a team's replicas fetch by another key", team=team.name, key_id=key.key_id, why=why)

    async def _lost(self, team: Team, key: FetchKey) -> None:
        """Ends a key that nobody has, nor ever will."""
        try:
            await self._keys.revoke(team.name, key.key_id, reason="it could not be put into the team's namespace")
        except MeshError as error:
            log.warning(
                "a key that nobody has stays until it ends", team=team.name, key_id=key.key_id, error=str(error)
            )
