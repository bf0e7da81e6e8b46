"""Wishes of callers for deployments in clusters: each is written into the object first, which is the wish, and then
into the row, which mirrors it. A crash in between is mended by the mirror: all that the row needs is in the object."""

from dataclasses import dataclass, replace

from services.common.errors import MeshError, Reason
from services.deployer.domain.cluster.objects import ClusterObject, changed, manifest_of, object_name
from services.deployer.domain.deployment import Deployment, NewDeployment, ObjectWish, Recipe, Wish
from services.deployer.domain.quota import Quota
from services.deployer.engines.clusters import Clusters
from services.deployer.ports import Cluster, DeploymentStore


@dataclass(frozen=True, slots=True)
class Change:
    """What a deployment shall be from now on."""

    wish: Wish
    version: str
    recipe: Recipe | None
    """Of another version than before; None: it is the same."""
    quota: Quota | None
    actor: str


class ClusterWishes:
    """The part of `Deployments` that concerns clusters."""

    def __init__(self, *, store: DeploymentStore, clusters: Clusters) -> None:
        self._store = store
        self._clusters = clusters

    async def create(self, new: NewDeployment, recipe: Recipe, quota: Quota | None) -> Deployment:
        """Makes the object and the row of a checked wish. Raises what either refuses; then neither is there."""
        cluster, new = self._clusters.named(new.cluster), _stated(new)
        async with self._clusters.lock(new.cluster):
            there = await self._store.find(new.model_name, new.deployment_name)
            if there is not None:
                # The same call again, or a name that is taken: the store tells which.
                return await self._store.create(new, recipe, quota)
            await self._store.create(new, recipe, quota, dry_run=True)
            name = object_name(new.model_name, new.deployment_name)
            found = await cluster.read(new.namespace, name)
            if found is not None and (found.terminating or not _same(found, new)):
                raise _in_the_way(found)
            # Made by a call that broke off: exactly that state is replaced.
            made = await cluster.apply(manifest_of(new, name=name, over=found))
            return await self._store.create(replace(new, wish=made.wish), recipe, quota)

    async def tried(self, new: NewDeployment) -> str:
        """What the cluster says of a deployment that is not made yet, in words. Raises what it refuses."""
        name = object_name(new.model_name, new.deployment_name)
        await self._clusters.named(new.cluster).apply(manifest_of(_stated(new), name=name), dry_run=True)
        return f"cluster {new.cluster!r} would take it in namespace {new.namespace!r}, as ModelDeployment {name!r}"

    async def change(self, current: Deployment, to: Change) -> Deployment | None:
        """Changes object and row. None where either has changed since `current` was read, for instance by kubectl, so
        that the mirror comes first."""
        cluster = self._clusters.of(current)
        async with self._clusters.lock(current.new.cluster):
            found = await self._object(cluster, current)
            if found is None or (found.new.version, found.wish) != (current.new.version, current.wish):
                return None
            if await self._store_change(current, to, dry_run=True) is None:
                return None
            try:
                made = await cluster.apply(changed(found, to.version, to.wish, changed_by=to.actor))
            except MeshError as error:
                if error.reason is Reason.ETAG_MISMATCH:
                    return None
                raise
            return await self._store_change(current, replace(to, wish=made.wish))

    async def restart(self, current: Deployment, *, at: str, actor: str) -> Deployment | None:
        """Has all replicas made anew, whatever else the object wishes and however it came to it: one that the mesh has
        not taken up is tried again too. None where object or row has changed meanwhile."""
        cluster = self._clusters.of(current)
        async with self._clusters.lock(current.new.cluster):
            found = await self._object(cluster, current)
            if found is None:
                return None
            in_line = (found.new.version, found.wish) == (current.new.version, current.wish)
            asked = replace(found.wish, of_object=replace(found.wish.of_object, restarted_at=at))
            try:
                made = await cluster.apply(changed(found, found.new.version, asked, changed_by=actor))
            except MeshError as error:
                if error.reason is Reason.ETAG_MISMATCH:
                    return None
                raise
            if not in_line:
                # What else the object asks for is the mirror's to take up, and the restart with it.
                return current
            return await self._store.change(
                current.deployment_id, made.wish, generation=current.generation, reload=True, actor=actor
            )

    async def delete(self, current: Deployment, *, actor: str) -> Deployment | None:
        """Deletes the object, and begins the removal of the row; None where that has changed since it was read."""
        cluster, new = self._clusters.of(current), current.new
        async with self._clusters.lock(new.cluster):
            for one in await cluster.in_namespace(new.namespace):
                if not one.terminating and _names(one) == (new.model_name, new.deployment_name):
                    await cluster.delete(one)
            return await self._store.request_deletion(current.deployment_id, generation=current.generation, actor=actor)

    async def _object(self, cluster: Cluster, current: Deployment) -> ClusterObject | None:
        """The deployment's object as it is now."""
        new = current.new
        known = cluster.find(new.namespace, new.model_name, new.deployment_name)
        found = await cluster.read(new.namespace, known.name) if known is not None else None
        return found if found is not None and not found.terminating else None

    async def _store_change(self, current: Deployment, to: Change, *, dry_run: bool = False) -> Deployment | None:
        key, generation = current.deployment_id, current.generation
        if to.recipe is None:
            return await self._store.change(
                key, to.wish, generation=generation, quota=to.quota, actor=to.actor, dry_run=dry_run
            )
        return await self._store.roll(
            key, to.version, to.recipe, to.wish, generation=generation, quota=to.quota, actor=to.actor, dry_run=dry_run
        )


def _stated(new: NewDeployment) -> NewDeployment:
    """With the shares that it is made with as a part of what its object asks for."""
    return replace(new, wish=replace(new.wish, of_object=ObjectWish(traffic_split=new.traffic_split)))


def _names(found: ClusterObject) -> tuple[str, str]:
    return found.new.model_name, found.new.deployment_name


def _same(found: ClusterObject, new: NewDeployment) -> bool:
    """Whether an object is what a call like this one has made before."""
    mine = (new.model_name, new.deployment_name, new.version, new.environment, new.created_by, new.request_id)
    one = found.new
    return mine == (one.model_name, one.deployment_name, one.version, one.environment, one.created_by, one.request_id)


def _in_the_way(found: ClusterObject) -> MeshError:
    where = f"ModelDeployment {found.name!r} in namespace {found.namespace!r} of cluster {found.new.cluster!r}"
    metadata = {"model_name": found.new.model_name, "deployment_name": found.new.deployment_name}
    if found.terminating:
        return MeshError(
            Reason.DEPLOYMENT_TERMINATING,
            f"{where} is still being removed; try again in some seconds",
            metadata=metadata,
            retry_after_s=2.0,
        )
    return MeshError(
        Reason.DEPLOYMENT_EXISTS,
        f"{where} is there already; `kubectl describe` says why the mesh has not taken it up, delete it or choose "
        "another name",
        metadata=metadata,
    )
