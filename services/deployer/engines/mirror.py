"""Keeps the rows of a cluster's deployments as their objects say, and tells the objects how their rows stand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import Code, MeshError
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.deployer.domain.cluster.mirroring import Due, Refusal, due, elsewhere, foretold, refused, said_of, second
from services.deployer.domain.cluster.objects import ClusterObject
from services.deployer.domain.deployment import RETIRED_IDLE_S, Deployment
from services.deployer.engines.admission import Admission
from services.deployer.engines.clusters import Clusters
from services.deployer.engines.demand import Demand
from services.deployer.engines.scaling import Scaling
from services.deployer.ports import Cluster, DeploymentStore

log = get_logger(__name__)

_TRANSIENT = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED)
_AGAIN_FIRST_S, _AGAIN_MAX_S = 0.5, 15.0
_LOOK_EVERY_S = 2.0
"""Rows change without a word to their cluster, by routing for instance."""
_GATHER_S = 0.05
"""Several changes within so long cost one look."""
_REFUSED_AGAIN_S = 30.0
"""What was refused is tried again after so long: a version may be registered meanwhile, or a quota raised."""

_Name = tuple[str, str]


class Mirror:
    """Of one cluster: a background task, `run`."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        clusters: Clusters,
        store: DeploymentStore,
        admission: Admission,
        demand: Demand,
        scaling: Scaling,
        changed: Signal,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._clusters = clusters
        self._store = store
        self._admission = admission
        self._demand = demand
        self._scaling = scaling
        self._changed = changed
        self._clock = clock
        self._refusals: dict[str, tuple[int, float, Refusal]] = {}
        """By uid: of which generation, until when it is believed, and what is said."""

    async def run(self) -> None:
        """Looks whenever the cluster or a deployment changed; never ends by itself."""
        delay_s = _AGAIN_FIRST_S
        while True:
            there, here = self._cluster.changed.current, self._changed.current
            try:
                await self.look()
            except MeshError as error:
                log.warning("a cluster is not mirrored yet", cluster=self._cluster.name, error=str(error))
                await self._clock.sleep(delay_s)
                delay_s = min(2 * delay_s, _AGAIN_MAX_S)
                continue
            delay_s = _AGAIN_FIRST_S
            if not here.is_set():
                await wait_at_most(there, _LOOK_EVERY_S)
            await self._clock.sleep(_GATHER_S)

    async def look(self) -> None:
        """Brings every row in line. What cannot be is said in its object; raises what may be better soon."""
        if not self._cluster.synced:
            return
        rows = await self._rows()
        objects = self._cluster.objects()
        self._refusals = {one.uid: self._refusals[one.uid] for one in objects if one.uid in self._refusals}
        problem: MeshError | None = None
        for found in objects:
            try:
                await self._bring(found, rows.get(_name(found)))
            except MeshError as error:
                problem = problem or error
        names = {(one.namespace, *_name(one)) for one in objects}
        for name, row in rows.items():
            if row.new.cluster == self._cluster.name and (row.new.namespace, *name) not in names:
                await self._remove(row)
        await self._tell(objects)
        if problem is not None:
            raise problem

    async def _rows(self) -> Mapping[_Name, Deployment]:
        every = await self._store.every()
        return {(one.new.model_name, one.new.deployment_name): one for one in every if not one.successor}

    async def _bring(self, found: ClusterObject, row: Deployment | None) -> None:
        """One row, where it seems to differ; under the lock it is looked at again."""
        if self._refusal(found) is not None:
            return
        first = self._cluster.find(found.namespace, *_name(found))
        if first is not None and first.uid != found.uid:
            if not found.terminating:
                self._refuse(found, second(first))
            return
        if due(found, row) in {Due.NOTHING, Due.WAIT}:
            return
        async with self._clusters.lock(self._cluster.name):
            current = self._cluster.find(found.namespace, *_name(found))
            row = await self._store.find(*_name(found))
            if current is None or current.uid != found.uid:
                return
            try:
                await self._act(current, row)
            except MeshError as error:
                if error.code in _TRANSIENT:
                    raise
                log.info("not mirrored", object=f"{found.namespace}/{found.name}", error=str(error))
                self._refuse(current, refused(error))

    async def _act(self, found: ClusterObject, row: Deployment | None) -> None:
        match due(found, row):
            case Due.ADOPT:
                await self._adopt(found)
            case Due.REFUSE if row is not None:
                self._refuse(found, elsewhere(row))
            case Due.CHANGE | Due.ROLL if row is not None:
                await self._change(found, row)
            case Due.REMOVE if row is not None and row.new.namespace == found.namespace:
                await self._withdraw(row, found.manager)

    async def _adopt(self, found: ClusterObject) -> None:
        new = self._admission.well_formed(found.new)
        recipe = await self._admission.recipe(new)
        new = replace(new, team=recipe.team)
        await self._admission.check_placed(new)
        made = await self._store.create(new, recipe, self._admission.quota(new.team, new.wish))
        log.info("taken up", deployment=made.server_model_name, by=new.created_by, cluster=new.cluster)
        self._changed.fire()

    async def _change(self, found: ClusterObject, row: Deployment) -> None:
        wish, key, generation = found.wish, row.deployment_id, row.generation
        self._admission.check_values(wish, found.new.cluster)
        quota = self._admission.quota(row.new.team, wish)
        if found.new.version == row.new.version:
            self._admission.check_wish(wish, row.recipe, found.new.cluster)
            anew = wish.of_object.restarted_at != row.wish.of_object.restarted_at
            await self._store.change(key, wish, generation=generation, reload=anew, quota=quota, actor=found.actor)
        else:
            recipe = await self._admission.recipe(replace(row.new, version=found.new.version, wish=wish))
            await self._store.roll(
                key, found.new.version, recipe, wish, generation=generation, quota=quota, actor=found.actor
            )
        self._changed.fire()

    async def _remove(self, row: Deployment) -> None:
        """A row without an object: asked for once more, since it is the only word that it is gone."""
        if row.deleting:
            return
        name = (row.new.model_name, row.new.deployment_name)
        async with self._clusters.lock(self._cluster.name):
            fresh = await self._store.find(*name)
            if fresh is None or fresh.deleting or fresh.new.cluster != self._cluster.name:
                return
            for one in await self._cluster.in_namespace(fresh.new.namespace):
                if _name(one) == name and not one.terminating:
                    return
            await self._withdraw(fresh, "")

    async def _withdraw(self, row: Deployment, actor: str) -> None:
        why = "its ModelDeployment was deleted"
        await self._store.request_deletion(row.deployment_id, generation=row.generation, actor=actor, why=why)
        self._changed.fire()

    async def _tell(self, objects: Sequence[ClusterObject]) -> None:
        """Writes conditions that say something new."""
        every = await self._store.every()
        rows = {(one.new.model_name, one.new.deployment_name): one for one in every if not one.successor}
        older: dict[str, dict[str, bool]] = {}
        for one in every:
            if one.successor:
                older.setdefault(one.successor, {})[one.new.version] = not self._idle(one)
        for seen in objects:
            found = self._cluster.find(seen.namespace, *_name(seen))
            found = seen if found is None or found.uid != seen.uid else found
            row, refusal = rows.get(_name(found)), self._refusal(found)
            if refusal is None and (row is None or due(found, row) is not Due.NOTHING):
                # It is not in line yet; the next look says how it stands then.
                continue
            kept = older.get(row.deployment_id, {}) if row is not None else {}
            now = self._clock.now()
            said = said_of(found, row, refusal, older=kept, now=now)
            verdict = self._scaling.foreseen(row) if row is not None and refusal is None else None
            said, floor = foretold(said, found, verdict, now=now)
            if said != found.said or floor != found.floor or not found.said_of_now:
                await self._cluster.tell(found, said, floor)

    def _idle(self, older: Deployment) -> bool:
        return self._demand.idle_s((older.new.model_name, older.new.version)) >= RETIRED_IDLE_S

    def _refusal(self, found: ClusterObject) -> Refusal | None:
        generation, until_s, refusal = self._refusals.get(found.uid, (0, 0.0, None))
        stands = generation == found.generation and self._clock.monotonic() < until_s
        return refusal if stands else None

    def _refuse(self, found: ClusterObject, refusal: Refusal) -> None:
        until_s = self._clock.monotonic() + _REFUSED_AGAIN_S
        self._refusals[found.uid] = (found.generation, until_s, refusal)


def _name(found: ClusterObject) -> _Name:
    return found.new.model_name, found.new.deployment_name
