"""The deployer's store, in memory: it passes the contract tests that the real one passes."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.deployer.adapters.postgres import same_or_refused
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Status, Wish
from services.deployer.domain.events import EVENTS_KEEP_DAYS, Event, KeptEvent, created, passed, wished
from services.deployer.domain.outcomes import held
from services.deployer.domain.quota import Quota, check_quota
from services.deployer.domain.rolling import asked_split, check_free, rolled, rolled_split, taken_up, takes_over_from


class MemoryStore:
    """A `DeploymentStore`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, Deployment] = {}
        self._revision = 0
        self._made = 0
        self._told = 0
        self._events: list[tuple[tuple[str, str], KeptEvent]] = []
        self.away = False
        self.records = 0
        """How often progress was stored."""

    async def create(
        self, new: NewDeployment, recipe: Recipe, quota: Quota | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """Stores it, or says what stands in its way."""
        self._reach()
        rivals = [
            (same_request, same_name, row)
            for row in self._rows.values()
            for same_request in (bool(new.request_id) and _request(row.new) == _request(new),)
            for same_name in (_name(row.new) == _name(new) and not row.successor,)
            if same_name or same_request or (row.new.model_name, row.new.version) == (new.model_name, new.version)
        ]
        if rivals:
            return same_or_refused(new, max(rivals, key=lambda rival: rival[:2])[2])
        if quota is not None:
            check_quota(quota, new.wish, others=[row.wish for row in self._of_team(quota.team)])
        self._made += 1
        now = self._clock.now()
        key = f"00000000-0000-0000-0000-{self._made:012}"
        made = Deployment(key, new, recipe, new.wish, Progress(), 1, now, now)
        if not dry_run:
            self._rows[key] = made
            self._tell(made, created(made))
        return made

    async def find(self, model_name: str, deployment_name: str) -> Deployment | None:
        """By name."""
        self._reach()
        found = (row for row in self._rows.values() if _name(row.new) == (model_name, deployment_name))
        return next((row for row in found if not row.successor), None)

    async def holder(self, model_name: str, version: str) -> Deployment | None:
        """By version."""
        self._reach()
        named = (model_name, version)
        return next((row for row in self._rows.values() if (row.new.model_name, row.new.version) == named), None)

    async def page(
        self,
        *,
        model_name: str,
        status: str,
        environment: str,
        after: tuple[str, ...],
        limit: int,
        models: Collection[str] | None = None,
    ) -> Sequence[Deployment]:
        """A page."""
        return [
            row
            for row in await self.every()
            if not row.successor
            and (not model_name or row.new.model_name == model_name)
            and (models is None or row.new.model_name in models)
            and (not status or row.progress.status == status)
            and (not environment or row.new.environment == environment)
            and (not after or _name(row.new) > after)
        ][:limit]

    async def every(self) -> Sequence[Deployment]:
        """All, in order."""
        self._reach()
        return sorted(self._rows.values(), key=lambda row: _name(row.new))

    async def change(
        self,
        deployment_id: str,
        wish: Wish,
        *,
        generation: int,
        reload: bool = False,
        quota: Quota | None = None,
        actor: str = "",
        dry_run: bool = False,
    ) -> Deployment | None:
        """Replaces the wish."""
        self._reach()
        row = self._rows.get(deployment_id)
        if row is None or row.generation != generation or row.deleting:
            return None
        if quota is not None:
            others = [one.wish for one in self._of_team(quota.team) if one.deployment_id != deployment_id]
            check_quota(quota, wish, others=others, before=row.wish)
        progress = replace(row.progress, attempts=0, next_attempt_at=None, replicas=None)
        if reload:
            progress = replace(progress, loaded=dict.fromkeys(progress.loaded, ""))
        split = asked_split(row, wish)
        new = replace(row.new, wish=wish)
        if split is not None:
            new = replace(new, traffic_split=split.shares)
            progress = replace(progress, traffic_routed=False)
        changed = replace(
            row,
            wish=wish,
            generation=generation + 1,
            progress=progress,
            new=new,
            split_generation=split.generation if split is not None else row.split_generation,
        )
        if dry_run:
            return changed
        type_, words = ("Restarted", "it is loaded anew") if reload else ("Changed", "another wish holds")
        self._tell(changed, wished(changed, type_, words, actor))
        return self._put(changed)

    async def roll(
        self,
        deployment_id: str,
        version: str,
        recipe: Recipe,
        wish: Wish,
        *,
        generation: int,
        quota: Quota | None = None,
        actor: str = "",
        dry_run: bool = False,
    ) -> Deployment | None:
        """Gives it another version."""
        self._reach()
        old = self._rows.get(deployment_id)
        if old is None or old.generation != generation or old.deleting:
            return None
        if quota is not None:
            others = [one.wish for one in self._of_team(quota.team) if one.deployment_id != deployment_id]
            check_quota(quota, wish, others=others, before=old.wish)
        named = (old.new.model_name, version)
        rival = next((one for one in self._rows.values() if (one.new.model_name, one.new.version) == named), None)
        check_free(old, version, rival)
        if dry_run:
            return old
        self._made += 1
        key = f"00000000-0000-0000-0000-{self._made:012}"
        self._put(replace(old, deployment_id=key, successor=deployment_id, new=replace(old.new, request_id="")))
        progress = Progress()
        if rival is not None:
            del self._rows[rival.deployment_id]
            progress = taken_up(rival.progress)
        made = replace(
            old,
            new=rolled(old, version, wish),
            recipe=recipe,
            wish=wish,
            progress=progress,
            generation=generation + 1,
            previous_version=takes_over_from(old),
            split_generation=rolled_split(old, version, wish).generation,
        )
        self._tell(made, wished(made, "VersionChanged", f"{version} shall take over from {old.new.version}", actor))
        return self._put(made)

    async def hand_over(self, model_name: str, team: str) -> None:
        """Notes whose they are now."""
        self._reach()
        for row in list(self._rows.values()):
            if row.new.model_name == model_name and row.new.team != team:
                self._put(replace(row, new=replace(row.new, team=team, request_id="")))

    async def request_deletion(
        self, deployment_id: str, *, generation: int, actor: str = "", why: str = ""
    ) -> Deployment | None:
        """Marks it."""
        self._reach()
        row = self._rows.get(deployment_id)
        if row is None or row.generation != generation:
            return None
        for one in [row, *(one for one in self._rows.values() if one.successor == deployment_id)]:
            progress = replace(one.progress, status=Status.TERMINATING, attempts=0, next_attempt_at=None)
            self._put(replace(one, deleting=True, progress=progress))
        marked = self._rows[deployment_id]
        words = f"{row.new.version} is to go" + (f": {why}" if why else "")
        self._tell(marked, wished(marked, "Removing", words, actor))
        return marked

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Stores progress."""
        self._reach()
        self.records += 1
        row = self._rows.get(deployment.deployment_id)
        if row is None or row.new.version != deployment.new.version:
            return
        holds = held(progress, read=deployment, row=row)
        if row.deleting == deployment.deleting:
            self._tell(row, *passed(row, holds))
        self._put(replace(row, progress=holds))

    async def forget(self, deployment_id: str) -> None:
        """Removes it."""
        self._reach()
        self._rows.pop(deployment_id, None)

    async def next_revision(self) -> int:
        """The next."""
        self._reach()
        self._revision += 1
        return self._revision

    async def events(
        self, model_name: str, deployment_name: str, *, before: int | None, limit: int
    ) -> Sequence[KeptEvent]:
        """The newest first."""
        self._reach()
        found = [
            kept
            for name, kept in reversed(self._events)
            if name == (model_name, deployment_name) and (before is None or kept.number < before)
        ]
        return found[:limit]

    async def forget_events(self) -> None:
        """Removes old ones."""
        self._reach()
        since = self._clock.now() - timedelta(days=EVENTS_KEEP_DAYS)
        self._events = [(name, kept) for name, kept in self._events if kept.time >= since]

    def _tell(self, row: Deployment, *events: Event) -> None:
        for event in events:
            self._told += 1
            self._events.append((_name(row.new), KeptEvent(self._told, self._clock.now(), event)))

    def _of_team(self, team: str) -> Sequence[Deployment]:
        return [row for row in self._rows.values() if row.new.team == team and not row.deleting and not row.successor]

    def _put(self, row: Deployment) -> Deployment:
        moment = max(self._clock.now(), row.updated_at + timedelta(microseconds=1))
        self._rows[row.deployment_id] = replace(row, updated_at=moment)
        return self._rows[row.deployment_id]

    def _reach(self) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the store does not answer")


def _request(new: NewDeployment) -> tuple[str, str]:
    return (new.team, new.request_id)


def _name(new: NewDeployment) -> tuple[str, str]:
    return (new.model_name, new.deployment_name)
