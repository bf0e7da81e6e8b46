"""What callers may ask for: wishes are checked and stored here, and brought about by the reconciler."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_deployment_name, check_model_name, check_version
from services.common.page import check_page_size, decode_number_token, decode_page_token, encode_page_token
from services.common.signals import Signal, wait_at_most
from services.deployer.domain.checks import ENVIRONMENTS
from services.deployer.domain.cluster.wishes import restart_mark
from services.deployer.domain.deployment import LOCAL, Condition, Deployment, NewDeployment, Status, Wish
from services.deployer.domain.events import KeptEvent
from services.deployer.engines.admission import Admission
from services.deployer.engines.cluster_wishes import Change, ClusterWishes
from services.deployer.engines.clusters import Clusters
from services.deployer.ports import DeploymentStore

_CHANGE_TRIES = 5
"""Concurrent changes of one deployment that a change without an etag outlasts."""
_LOOK_AGAIN_S = 0.5
"""How often a waiting call looks without being told of a change."""
WAIT_MAX_S = 300.0
_WAIT_DEFAULT_S = 30.0


@dataclass(frozen=True)
class Page:
    """A page of deployments."""

    deployments: Sequence[Deployment]
    next_page_token: str


class Deployments:
    """The calls of DeployerService, in domain values. `changed` fires whenever a deployment may have changed."""

    def __init__(
        self,
        *,
        store: DeploymentStore,
        admission: Admission,
        clock: Clock,
        changed: Signal,
        drain_wait_s: float,
        cluster_wishes: ClusterWishes | None = None,
    ) -> None:
        self._store = store
        self._admission = admission
        self._clock = clock
        self._changed = changed
        self._drain_wait_s = drain_wait_s
        self._in_clusters = cluster_wishes or ClusterWishes(store=store, clusters=Clusters({}))

    async def create(self, new: NewDeployment, *, any_host: bool = True) -> Deployment:
        """Stores a checked wish. Waits for a namesake that is just being removed, within bounds. `any_host`: whether an
        external backend may be wherever it likes, and a deployment in a cluster in whatever namespace."""
        new = self._admission.well_formed(new)
        recipe = await self._admission.recipe(new, any_host=any_host)
        new = await self._admission.placed(replace(new, team=recipe.team), any_namespace=any_host)
        quota = self._admission.quota(new.team, new.wish)
        deadline_s = self._clock.monotonic() + self._drain_wait_s
        while True:
            changed = self._changed.current
            try:
                if new.cluster == LOCAL:
                    made = await self._store.create(new, recipe, quota)
                else:
                    made = await self._in_clusters.create(new, recipe, quota)
            except MeshError as error:
                left_s = deadline_s - self._clock.monotonic()
                if error.reason is not Reason.DEPLOYMENT_TERMINATING or left_s <= 0:
                    raise
                await wait_at_most(changed, min(left_s, _LOOK_AGAIN_S))
            else:
                self._changed.fire()
                return made

    async def get(self, model_name: str, deployment_name: str) -> Deployment:
        """The deployment. Raises DEPLOYMENT_NOT_FOUND."""
        check_model_name(model_name)
        check_deployment_name(deployment_name)
        found = await self._store.find(model_name, deployment_name)
        if found is None:
            raise MeshError(
                Reason.DEPLOYMENT_NOT_FOUND,
                f"model {model_name!r} has no deployment {deployment_name!r}; list its deployments to see their names",
                metadata={"model_name": model_name, "deployment_name": deployment_name},
            )
        return found

    async def page(
        self,
        *,
        model_name: str,
        status: str,
        environment: str,
        page_size: int,
        page_token: str,
        sight: Sight = EVERYTHING,
    ) -> Page:
        """A page of the deployments of models that the caller sees, in order of model and name."""
        if model_name:
            check_model_name(model_name)
        if status and status not in tuple(Status):
            raise invalid("status", status, "empty or one of " + ", ".join(Status))
        if environment and environment not in ENVIRONMENTS:
            raise invalid("environment", environment, "empty or one of " + ", ".join(ENVIRONMENTS))
        size = check_page_size(page_size)
        query = f"deployments\0{model_name}\0{status}\0{environment}"
        after = decode_page_token(page_token, query=query)
        found = await self._store.page(
            model_name=model_name,
            status=status,
            environment=environment,
            after=after,
            limit=size + 1,
            models=None if sight.everything else sight.names,
        )
        shown = found[:size]
        more = len(found) > size
        last = shown[-1].new if more else None
        token = encode_page_token(last.model_name, last.deployment_name, query=query) if last else ""
        return Page(shown, token)

    async def update(
        self,
        model_name: str,
        deployment_name: str,
        *,
        etag: str,
        change: Callable[[Deployment], Wish],
        version: str = "",
        actor: str = "",
        any_host: bool = True,
    ) -> Deployment:
        """Replaces the wish by `change` of it, and the version where another one is given. Raises ETAG_MISMATCH,
        DEPLOYMENT_TERMINATING, INVALID_FIELD, and of another version what `create` raises."""
        version = check_version(version) if version else ""
        for _ in range(_CHANGE_TRIES):
            signal = self._changed.current
            current = await self._changeable(model_name, deployment_name, etag)
            wish = change(current)
            self._admission.check_values(wish, current.new.cluster)
            quota = self._admission.quota(current.new.team, wish)
            key, generation = current.deployment_id, current.generation
            if version and version != current.new.version:
                wished = replace(current.new, version=version, wish=wish)
                recipe = await self._admission.recipe(wished, any_host=any_host)
                if current.clustered:
                    changed = await self._in_clusters.change(current, Change(wish, version, recipe, quota, actor))
                else:
                    changed = await self._store.roll(
                        key, version, recipe, wish, generation=generation, quota=quota, actor=actor
                    )
            else:
                self._admission.check_change(current, wish, any_host=any_host)
                if wish == current.wish:
                    return current
                if current.clustered:
                    to = Change(wish, current.new.version, None, quota, actor)
                    changed = await self._in_clusters.change(current, to)
                else:
                    changed = await self._store.change(key, wish, generation=generation, quota=quota, actor=actor)
            if changed is not None:
                self._changed.fire()
                return changed
            if current.clustered:
                # Somebody has changed the object, or its status is just being written: the row follows at once.
                await wait_at_most(signal, _LOOK_AGAIN_S)
        raise _mismatch(model_name, deployment_name)

    async def restart(self, model_name: str, deployment_name: str, *, actor: str = "") -> Deployment:
        """Has it loaded anew. Raises DEPLOYMENT_TERMINATING, and in a cluster what its API server refuses."""
        for _ in range(_CHANGE_TRIES):
            signal = self._changed.current
            current = await self._changeable(model_name, deployment_name, "")
            if current.clustered:
                at = restart_mark(self._clock.now())
                changed = await self._in_clusters.restart(current, at=at, actor=actor)
            else:
                changed = await self._store.change(
                    current.deployment_id, current.wish, generation=current.generation, reload=True, actor=actor
                )
            if changed is not None:
                self._changed.fire()
                return changed
            if current.clustered:
                await wait_at_most(signal, _LOOK_AGAIN_S)
        raise _mismatch(model_name, deployment_name)

    async def delete(self, model_name: str, deployment_name: str, *, etag: str, actor: str = "") -> Deployment:
        """Begins the removal, of its older versions too; the same again where it has begun."""
        for _ in range(_CHANGE_TRIES):
            current = await self.get(model_name, deployment_name)
            if current.deleting:
                return current
            if etag and etag != current.etag:
                raise _mismatch(model_name, deployment_name)
            if current.clustered:
                marked = await self._in_clusters.delete(current, actor=actor)
            else:
                key, generation = current.deployment_id, current.generation
                marked = await self._store.request_deletion(key, generation=generation, actor=actor)
            if marked is not None:
                self._changed.fire()
                return marked
        raise _mismatch(model_name, deployment_name)

    async def validate(self, new: NewDeployment, *, any_host: bool = True) -> tuple[Condition, ...]:
        """How each check of a deployment that is not made yet goes; see `Admission.checked`."""
        found = await self._admission.checked(new, any_host=any_host)
        if new.cluster == LOCAL or not all(one.status for one in found):
            return found
        return (*found, await self._taken(new, any_host=any_host))

    async def _taken(self, new: NewDeployment, *, any_host: bool) -> Condition:
        """Whether its cluster would take it."""
        try:
            recipe = await self._admission.recipe(new, any_host=any_host)
            placed = await self._admission.placed(replace(new, team=recipe.team), any_namespace=any_host)
            words = await self._in_clusters.tried(placed)
        except MeshError as error:
            if error.reason is Reason.DEPENDENCY_UNAVAILABLE:
                raise
            return Condition("Cluster", False, error.reason.value, error.message, self._clock.now())
        return Condition("Cluster", True, "Cluster", words, self._clock.now())

    async def events(
        self, model_name: str, deployment_name: str, *, page_size: int, page_token: str
    ) -> tuple[Sequence[KeptEvent], str]:
        """A page of what happened to the deployments of that name, the newest first, and the token of the next."""
        check_model_name(model_name)
        check_deployment_name(deployment_name)
        size = check_page_size(page_size)
        query = f"events\0{model_name}\0{deployment_name}"
        before = decode_number_token(page_token, query=query)
        found = await self._store.events(model_name, deployment_name, before=before, limit=size + 1)
        if not found and before is None:
            # Nothing ever happened to what never was.
            await self.get(model_name, deployment_name)
        shown = found[:size]
        return shown, encode_page_token(str(shown[-1].number), query=query) if len(found) > size else ""

    async def wait(self, model_name: str, deployment_name: str, *, timeout_s: float) -> Deployment:
        """The deployment once it is settled, or as it is after `timeout_s` seconds; 0 means 30."""
        if not 0 <= timeout_s <= WAIT_MAX_S:
            raise invalid("timeout_s", timeout_s, f"0 to {WAIT_MAX_S:g}; 0 means {_WAIT_DEFAULT_S:g}")
        deadline_s = self._clock.monotonic() + (timeout_s or _WAIT_DEFAULT_S)
        while True:
            changed = self._changed.current
            current = await self.get(model_name, deployment_name)
            left_s = deadline_s - self._clock.monotonic()
            if current.settled or left_s <= 0:
                return current
            await wait_at_most(changed, min(left_s, _LOOK_AGAIN_S))

    async def watch(
        self, model_name: str, sight: Callable[[], Sight] = lambda: EVERYTHING
    ) -> AsyncIterator[tuple[Deployment, bool]]:
        """Deployments of models that the caller sees, as they change (the flag says removed), beginning with those
        there are. What the caller does not see any more counts as removed. Never ends by itself."""
        if model_name:
            check_model_name(model_name)
        known: dict[str, Deployment] = {}
        while True:
            changed = self._changed.current
            stored, seen = await self._store.every(), sight()
            every = {
                one.deployment_id: one
                for one in stored
                if not one.successor
                and seen.shows(one.new.model_name)
                and (not model_name or one.new.model_name == model_name)
            }
            for key in [key for key in known if key not in every]:
                yield known.pop(key), True
            for key, deployment in every.items():
                if known.get(key) != deployment:
                    known[key] = deployment
                    yield deployment, False
            await changed.wait()

    async def _changeable(self, model_name: str, deployment_name: str, etag: str) -> Deployment:
        current = await self.get(model_name, deployment_name)
        if current.deleting:
            raise MeshError(
                Reason.DEPLOYMENT_TERMINATING,
                f"deployment {deployment_name!r} of model {model_name!r} is being removed; "
                "deploy again when it is gone",
            )
        if etag and etag != current.etag:
            raise _mismatch(model_name, deployment_name)
        return current


def _mismatch(model_name: str, deployment_name: str) -> MeshError:
    return MeshError(
        Reason.ETAG_MISMATCH,
        f"deployment {deployment_name!r} of model {model_name!r} was changed by someone else; "
        "read it again and repeat the change with its new etag",
    )
