"""What callers may ask for: wishes are checked and stored here, and brought about by the reconciler."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_deployment_name, check_model_name, check_version
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.common.signals import Signal, wait_at_most
from services.deployer.domain.checks import ENVIRONMENTS, check_new, check_signature, check_stage, check_wish
from services.deployer.domain.deployment import Deployment, NewDeployment, Status, Wish
from services.deployer.domain.package import check_framework, check_precision
from services.deployer.domain.padding import check_padding
from services.deployer.domain.quota import Quota
from services.deployer.ports import DeploymentStore, Terms, VersionSource

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
        versions: VersionSource,
        terms: Terms,
        clock: Clock,
        changed: Signal,
        local_replicas_max: int,
        drain_wait_s: float,
    ) -> None:
        self._store = store
        self._versions = versions
        self._terms = terms
        self._clock = clock
        self._changed = changed
        self._local_replicas_max = local_replicas_max
        self._drain_wait_s = drain_wait_s

    async def create(self, new: NewDeployment) -> Deployment:
        """Stores a checked wish. Waits for a namesake that is just being removed, within bounds."""
        new = replace(
            new,
            version=check_version(new.version),
            traffic_split={
                check_version(version, "traffic_split"): weight for version, weight in new.traffic_split.items()
            },
        )
        check_new(new, local_replicas_max=self._local_replicas_max)
        recipe = await self._versions.recipe(new.model_name, new.version)
        check_stage(new, recipe)
        check_framework(recipe)
        check_precision(new.wish, recipe)
        check_padding(new.wish.batching.padding, recipe.schema)
        new = replace(new, team=recipe.team)
        check_signature(new, recipe, required=self._terms.terms(new.team).require_signature)
        quota = self._quota(new.team)
        deadline_s = self._clock.monotonic() + self._drain_wait_s
        while True:
            changed = self._changed.current
            try:
                made = await self._store.create(new, recipe, quota)
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
        self, model_name: str, deployment_name: str, *, etag: str, change: Callable[[Deployment], Wish]
    ) -> Deployment:
        """Replaces the wish by `change` of it. Raises ETAG_MISMATCH, DEPLOYMENT_TERMINATING, INVALID_FIELD."""
        for _ in range(_CHANGE_TRIES):
            current = await self._changeable(model_name, deployment_name, etag)
            wish = change(current)
            check_wish(wish, local_replicas_max=self._local_replicas_max)
            check_padding(wish.batching.padding, current.recipe.schema)
            check_precision(wish, current.recipe)
            if wish == current.wish:
                return current
            changed = await self._store.change(
                current.deployment_id, wish, generation=current.generation, quota=self._quota(current.new.team)
            )
            if changed is not None:
                self._changed.fire()
                return changed
        raise _mismatch(model_name, deployment_name)

    async def restart(self, model_name: str, deployment_name: str) -> Deployment:
        """Has it loaded anew. Raises DEPLOYMENT_TERMINATING."""
        for _ in range(_CHANGE_TRIES):
            current = await self._changeable(model_name, deployment_name, "")
            changed = await self._store.change(
                current.deployment_id, current.wish, generation=current.generation, reload=True
            )
            if changed is not None:
                self._changed.fire()
                return changed
        raise _mismatch(model_name, deployment_name)

    async def delete(self, model_name: str, deployment_name: str, *, etag: str) -> Deployment:
        """Begins the removal; the same again where it has begun."""
        for _ in range(_CHANGE_TRIES):
            current = await self.get(model_name, deployment_name)
            if current.deleting:
                return current
            if etag and etag != current.etag:
                raise _mismatch(model_name, deployment_name)
            marked = await self._store.request_deletion(current.deployment_id, generation=current.generation)
            if marked is not None:
                self._changed.fire()
                return marked
        raise _mismatch(model_name, deployment_name)

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
                if seen.shows(one.new.model_name) and (not model_name or one.new.model_name == model_name)
            }
            for key in [key for key in known if key not in every]:
                yield known.pop(key), True
            for key, deployment in every.items():
                if known.get(key) != deployment:
                    known[key] = deployment
                    yield deployment, False
            await changed.wait()

    def _quota(self, team: str) -> Quota | None:
        terms = self._terms.terms(team)
        quota = Quota(team, terms.cpu, terms.memory, terms.gpu)
        return quota if team and quota.limits else None

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
