"""Keeps each team's namespace what it should be. What a team that is gone had stays: deleting a namespace deletes all
in it, and that is for people to decide."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from services.common.body import text
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.operator.domain.applying import key_of, stamped
from services.operator.domain.manifests.team import ReplicaDefaults, Team, team_manifests
from services.operator.domain.names import APPLIED
from services.operator.engines.fetch_keys import FetchKeyKeeper
from services.operator.ports import Cluster, Teams

log = get_logger(__name__)


class TeamKeeper:
    """A background task: `run`."""

    def __init__(
        self,
        *,
        teams: Teams,
        cluster: Cluster,
        clock: Clock,
        defaults: ReplicaDefaults,
        mesh_namespace: str,
        period_s: float,
        renew_s: float,
        keys: FetchKeyKeeper,
        namespaces: Collection[str] = (),
    ) -> None:
        """`namespaces`: those that are looked after; none: all."""
        self._teams = teams
        self._cluster = cluster
        self._clock = clock
        self._defaults = defaults
        self._mesh_namespace = mesh_namespace
        self._period_s = period_s
        self._renew_s = renew_s
        self._keys = keys
        self._namespaces = frozenset(namespaces)
        self._applied: dict[tuple[str, str, str], tuple[str, float]] = {}

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            try:
                await self.keep()
            except MeshError as error:
                log.info("teams could not be looked after; will try again", error=str(error))
            await self._clock.sleep(self._period_s)

    async def keep(self) -> None:
        """Applies what changed, and all of it now and then, should somebody have changed it. Raises MeshError."""
        living: set[tuple[str, str, str]] = set()
        kept: list[Team] = []
        for team in self._looked_after(await self._teams.every()):
            try:
                living |= await self._keep(team)
                kept.append(team)
            except MeshError as error:
                if error.retry_after_s is not None:
                    raise
                log.warning("the cluster refuses a team's namespace", team=team.name, error=error.message)
        self._applied = {key: value for key, value in self._applied.items() if key in living}
        await self._keys.keep(kept)

    def _looked_after(self, teams: Sequence[Team]) -> Iterator[Team]:
        """Whose namespace is another team's too gets none: each would have the other's rights and its key."""
        of = Counter(team.namespace for team in teams)
        for team in teams:
            if of[team.namespace] > 1:
                log.warning("a namespace is that of several teams", team=team.name, namespace=team.namespace)
            elif not self._namespaces or team.namespace in self._namespaces:
                yield team

    async def _keep(self, team: Team) -> set[tuple[str, str, str]]:
        keys = set()
        made = team_manifests(team, self._defaults, mesh_namespace=self._mesh_namespace)
        for manifest in map(stamped, made):
            key = (team.namespace, *key_of(manifest))
            keys.add(key)
            digest, at_s = self._applied.get(key, ("", 0.0))
            now_s = self._clock.monotonic()
            wanted = text(manifest, "metadata", "annotations", APPLIED)
            if digest != wanted or now_s - at_s > self._renew_s:
                await self._cluster.apply(manifest)
                self._applied[key] = (wanted, now_s)
        return keys
