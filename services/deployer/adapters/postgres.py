"""Deployments in PostgreSQL, in the schema `deployer`."""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.deployer.adapters import statements as sql
from services.deployer.adapters.rows import (
    deployment_of,
    event_of,
    event_parameters,
    new_parameters,
    progress_parameters,
    wish_parameters,
)
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.events import EVENTS_KEEP_DAYS, Event, KeptEvent, created, passed, wished
from services.deployer.domain.outcomes import held
from services.deployer.domain.quota import Quota, check_quota
from services.deployer.domain.rolling import asked_split, check_free, rolled, rolled_split, takes_over_from

SCHEMA = "deployer"


class PostgresDeploymentStore:
    """A `DeploymentStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._read: dict[str, tuple[str, Deployment]] = {}
        """The rows as they were when all were read last, with the state that each had: of thousands few change."""

    async def create(
        self, new: NewDeployment, recipe: Recipe, quota: Quota | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """Stores a deployment, or says what stands in its way."""
        parameters = new_parameters(new, recipe)
        try:
            async with transaction(self._engine) as connection:
                if quota is not None:
                    await _check_new(connection, parameters, new, quota)
                made = deployment_of((await connection.execute(sql.INSERT, parameters)).mappings().one())
                if dry_run:
                    await connection.rollback()
                else:
                    await _tell(connection, made, created(made))
                return made
        except IntegrityError:
            async with transaction(self._engine) as connection:
                row = (await connection.execute(sql.RIVALS, parameters)).mappings().one_or_none()
        if row is None:
            # It went between the two statements.
            return await self.create(new, recipe, quota, dry_run=dry_run)
        return same_or_refused(new, deployment_of(row))

    async def find(self, model_name: str, deployment_name: str) -> Deployment | None:
        """The deployment of that name."""
        async with transaction(self._engine) as connection:
            found = await connection.execute(sql.FIND, {"model": model_name, "name": deployment_name})
            row = found.mappings().one_or_none()
        return deployment_of(row) if row is not None else None

    async def holder(self, model_name: str, version: str) -> Deployment | None:
        """Whoever has the version, also as an older one."""
        async with transaction(self._engine) as connection:
            found = await connection.execute(sql.HOLDER, {"model": model_name, "version": version})
            row = found.mappings().one_or_none()
        return deployment_of(row) if row is not None else None

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
        """At most `limit` deployments from behind `after`."""
        after_model, after_name = after if len(after) == 2 else ("", "")
        parameters = {
            "model": model_name,
            "status": status,
            "environment": environment,
            "after_model": after_model,
            "after_name": after_name,
            "limit": limit,
            "models": sorted(models) if models is not None else None,
        }
        async with transaction(self._engine) as connection:
            return [deployment_of(row) for row in (await connection.execute(sql.PAGE, parameters)).mappings()]

    async def every(self) -> Sequence[Deployment]:
        """All deployments; those that have not changed as the same objects as before."""
        known = self._read
        async with transaction(self._engine) as connection:
            states = [(str(key), state) for key, state in await connection.execute(sql.EVERY_STATE)]
            fresh = {key: known[key] for key, state in states if key in known and known[key][0] == state}
            changed = [key for key, _ in states if key not in fresh]
            if changed:
                for row in (await connection.execute(sql.THESE, {"ids": changed})).mappings():
                    fresh[str(row["id"])] = (row["state"], deployment_of(row))
        self._read = fresh
        return [fresh[key][1] for key, _ in states if key in fresh]

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
        """Replaces the wish if `generation` is still the current one."""
        parameters = {"id": deployment_id, "generation": generation, "reload": reload, **wish_parameters(wish)}
        async with transaction(self._engine) as connection:
            found = (await connection.execute(sql.LOCK, {"id": deployment_id})).mappings().one_or_none()
            split = asked_split(deployment_of(found), wish) if found is not None else None
            parameters |= {
                "reroute": split is not None,
                "split": json.dumps(dict(split.shares if split is not None else {})),
                "split_generation": split.generation if split is not None else 0,
            }
            if quota is not None:
                of_team = await _measured(connection, quota.team)
                others = [one.wish for one in of_team if one.deployment_id != deployment_id]
                before = next((one.wish for one in of_team if one.deployment_id == deployment_id), None)
                check_quota(quota, wish, others=others, before=before)
            row = (await connection.execute(sql.CHANGE, parameters)).mappings().one_or_none()
            if row is None:
                return None
            changed = deployment_of(row)
            type_, words = ("Restarted", "it is loaded anew") if reload else ("Changed", "another wish holds")
            await _tell(connection, changed, wished(changed, type_, words, actor))
            if dry_run:
                await connection.rollback()
        return changed

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
        """Gives the deployment another version; the row of the one it had becomes that of an older version."""
        async with transaction(self._engine) as connection:
            of_team = await _measured(connection, quota.team) if quota is not None else ()
            row = (await connection.execute(sql.LOCK, {"id": deployment_id})).mappings().one_or_none()
            old = deployment_of(row) if row is not None else None
            if old is None or old.generation != generation or old.deleting:
                return None
            if quota is not None:
                others = [one.wish for one in of_team if one.deployment_id != deployment_id]
                check_quota(quota, wish, others=others, before=old.wish)
            new = rolled(old, version, wish)
            parameters = {
                **new_parameters(new, recipe),
                "id": deployment_id,
                "created_at": old.created_at,
                "generation": generation,
                "previous_version": takes_over_from(old),
                "split_generation": rolled_split(old, version, wish).generation,
            }
            found = (await connection.execute(sql.OF_VERSION, parameters)).mappings().one_or_none()
            rival = deployment_of(found) if found is not None else None
            check_free(old, version, rival)
            await connection.execute(sql.BECOME_OLDER, {"id": deployment_id})
            statement = sql.INSERT_CURRENT if rival is None else sql.BECOME_CURRENT
            parameters["older_id"] = rival.deployment_id if rival is not None else None
            made = deployment_of((await connection.execute(statement, parameters)).mappings().one())
            words = f"{version} shall take over from {old.new.version}"
            await _tell(connection, made, wished(made, "VersionChanged", words, actor))
            if dry_run:
                await connection.rollback()
        return made

    async def hand_over(self, model_name: str, team: str) -> None:
        """Notes whose they are now."""
        async with transaction(self._engine) as connection:
            await connection.execute(sql.HAND_OVER, {"model": model_name, "team": team})

    async def request_deletion(
        self, deployment_id: str, *, generation: int, actor: str = "", why: str = ""
    ) -> Deployment | None:
        """Marks for removal if `generation` is still the current one, and its older versions with it."""
        async with transaction(self._engine) as connection:
            found = await connection.execute(sql.DELETE, {"id": deployment_id, "generation": generation})
            row = found.mappings().one_or_none()
            if row is None:
                return None
            marked = deployment_of(row)
            await connection.execute(sql.DELETE_OLDER, {"id": deployment_id})
            words = f"{marked.new.version} is to go" + (f": {why}" if why else "")
            await _tell(connection, marked, wished(marked, "Removing", words, actor))
        return marked

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Stores the progress."""
        key = deployment.deployment_id
        async with transaction(self._engine) as connection:
            found = (await connection.execute(sql.LOCK, {"id": key})).mappings().one_or_none()
            row = deployment_of(found) if found is not None else None
            if row is None or row.new.version != deployment.new.version:
                return
            holds = held(progress, read=deployment, row=row)
            await connection.execute(sql.RECORD, {"id": key, **progress_parameters(holds)})
            if row.deleting == deployment.deleting:
                await _tell(connection, row, *passed(row, holds))

    async def forget(self, deployment_id: str) -> None:
        """Removes the deployment."""
        async with transaction(self._engine) as connection:
            await connection.execute(sql.FORGET, {"id": deployment_id})

    async def events(
        self, model_name: str, deployment_name: str, *, before: int | None, limit: int
    ) -> Sequence[KeptEvent]:
        """At most `limit` events, the newest first."""
        parameters = {"model": model_name, "name": deployment_name, "before": before, "limit": limit}
        async with transaction(self._engine) as connection:
            return [event_of(row) for row in (await connection.execute(sql.EVENTS, parameters)).mappings()]

    async def forget_events(self) -> None:
        """Removes those older than EVENTS_KEEP_DAYS."""
        async with transaction(self._engine) as connection:
            await connection.execute(sql.FORGET_EVENTS, {"days": EVENTS_KEEP_DAYS})

    async def next_revision(self) -> int:
        """The next number of a sequence: it survives restarts and never goes back."""
        async with transaction(self._engine) as connection:
            return int((await connection.execute(sql.REVISION)).scalar_one())


async def _tell(connection: AsyncConnection, deployment: Deployment, *events: Event) -> None:
    for event in events:
        await connection.execute(sql.TELL, event_parameters(deployment.new, event))


async def _check_new(
    connection: AsyncConnection, parameters: Mapping[str, object], new: NewDeployment, quota: Quota
) -> None:
    of_team = await _measured(connection, quota.team)
    # What is there already is not made beside it: the insertion says so, whatever the quota.
    if (await connection.execute(sql.RIVALS, parameters)).first() is None:
        check_quota(quota, new.wish, others=[one.wish for one in of_team])


async def _measured(connection: AsyncConnection, team: str) -> Sequence[Deployment]:
    """The team's deployments, while nobody else measures them."""
    await connection.execute(sql.MEASURE_ALONE, {"team": team})
    return [deployment_of(row) for row in (await connection.execute(sql.OF_TEAM, {"team": team})).mappings()]


def same_or_refused(new: NewDeployment, rival: Deployment) -> Deployment:
    """`rival` where it is what the same call made before. Else raises why `new` cannot be made beside it."""
    if new.request_id and new.request_id == rival.new.request_id:
        asked = (new.model_name, new.version, new.deployment_name)
        if asked == (rival.new.model_name, rival.new.version, rival.new.deployment_name):
            return rival
        raise MeshError(
            Reason.REQUEST_ID_REUSED,
            f"request_id {new.request_id!r} made deployment {rival.new.deployment_name!r} of model "
            f"{rival.new.model_name!r}; send a new one with every new wish",
        )
    metadata = {"model_name": rival.new.model_name, "deployment_name": rival.new.deployment_name}
    if rival.deleting:
        raise MeshError(
            Reason.DEPLOYMENT_TERMINATING,
            f"deployment {rival.new.deployment_name!r} of model {rival.new.model_name!r} is still being removed; "
            "try again in some seconds",
            metadata=metadata,
            retry_after_s=2.0,
        )
    if rival.new.deployment_name == new.deployment_name:
        problem = f"model {new.model_name!r} has a deployment {new.deployment_name!r} already, of {rival.new.version}"
        advice = "update it, or choose another name"
    else:
        problem = f"{new.version} of model {new.model_name!r} is deployed already, as {rival.new.deployment_name!r}"
        advice = "scale or update that one"
    raise MeshError(Reason.DEPLOYMENT_EXISTS, f"{problem}; {advice}", metadata=metadata)


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction. Raises DEPENDENCY_UNAVAILABLE where the database is away, restarting or too slow."""
    try:
        async with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> MeshError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the deployer's database does not answer ({first_line}); see whether PostgreSQL runs and try again",
        retry_after_s=2.0,
    )
