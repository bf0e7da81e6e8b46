"""Deployments in PostgreSQL, in the schema `deployer`."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.deployer.adapters.rows import deployment_of, new_parameters, progress_parameters, wish_parameters
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.quota import Quota, check_quota

SCHEMA = "deployer"

_INSERT = text("""
    INSERT INTO deployments
        (model_id, version_id, deployment_name, environment, cluster, namespace, replicas, resources,
         autoscaling_config, batching_config, serving_options, traffic_split, request_id, created_by, team_id, recipe)
    VALUES
        (:model, :version, :name, :environment, :cluster, :namespace, :replicas, CAST(:resources AS jsonb),
         CAST(:autoscaling AS jsonb), CAST(:batching AS jsonb), CAST(:serving AS jsonb), CAST(:traffic_split AS jsonb),
         :request_id, :created_by, :team, CAST(:recipe AS jsonb))
    RETURNING *
""")
_RIVALS = text("""
    SELECT * FROM deployments
    WHERE (team_id = :team AND request_id = :request_id) OR (model_id = :model AND deployment_name = :name)
       OR (model_id = :model AND version_id = :version AND cluster = :cluster)
    ORDER BY team_id = :team AND request_id = :request_id DESC NULLS LAST, deployment_name = :name DESC
    LIMIT 1
""")
_FIND = text("SELECT * FROM deployments WHERE model_id = :model AND deployment_name = :name")
_EVERY = text("SELECT * FROM deployments ORDER BY model_id, deployment_name")
_PAGE = text("""
    SELECT * FROM deployments
    WHERE (:model = '' OR model_id = :model) AND (:status = '' OR status = :status)
      AND (CAST(:models AS text[]) IS NULL OR model_id = ANY(CAST(:models AS text[])))
      AND (:environment = '' OR environment = :environment)
      AND (model_id, deployment_name) > (:after_model, :after_name)
    ORDER BY model_id, deployment_name
    LIMIT :limit
""")
_CHANGE = text("""
    UPDATE deployments SET
        replicas = :replicas, resources = CAST(:resources AS jsonb),
        autoscaling_config = CAST(:autoscaling AS jsonb), batching_config = CAST(:batching AS jsonb),
        serving_options = CAST(:serving AS jsonb), generation = generation + 1, attempts = 0, next_attempt_at = NULL,
        scaled_replicas = NULL,
        loaded = CASE WHEN :reload
            THEN (SELECT coalesce(jsonb_object_agg(server, ''), '{}') FROM jsonb_object_keys(loaded) AS keys (server))
            ELSE loaded END,
        updated_at = now()
    WHERE id = CAST(:id AS uuid) AND generation = :generation AND NOT deleting
    RETURNING *
""")
_DELETE = text("""
    UPDATE deployments SET deleting = true, status = 'terminating', attempts = 0, next_attempt_at = NULL,
        updated_at = now()
    WHERE id = CAST(:id AS uuid) AND generation = :generation
    RETURNING *
""")
# The wish may have changed since it was read: then a failure of the old one must not delay the new one.
_RECORD = text("""
    UPDATE deployments SET
        status = CASE WHEN deleting THEN 'terminating' ELSE :status END,
        health_status = :health, observed_generation = :observed_generation, loaded = CAST(:loaded AS jsonb),
        ready_replicas = :ready_replicas, error_reason = :error_reason, error_message = :error_message,
        conditions = CAST(:conditions AS jsonb),
        attempts = CASE WHEN generation = :generation AND deleting = :deleting THEN :attempts ELSE 0 END,
        next_attempt_at = CASE WHEN generation = :generation AND deleting = :deleting
            THEN CAST(:next_attempt_at AS timestamptz) END,
        load_time_ms = :load_time_ms, memory_bytes = :memory_bytes, deployed_at = :deployed_at,
        withdrawn_at = :withdrawn_at, traffic_routed = :traffic_routed, asleep_since = :asleep_since,
        scaled_replicas = CASE WHEN generation = :generation THEN CAST(:scaled_replicas AS integer) END,
        updated_at = now()
    WHERE id = CAST(:id AS uuid)
""")
# Request ids are of the team that sent them.
_HAND_OVER = text("""
    UPDATE deployments SET team_id = :team, request_id = NULL, updated_at = now()
    WHERE model_id = :model AND team_id <> :team
""")
# Held to the end of the transaction, so that of two deployments that would fit one by one the second sees the first.
_MEASURE_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended('deployer quota of ' || CAST(:team AS text), 0))")
_OF_TEAM = text("SELECT * FROM deployments WHERE team_id = :team AND NOT deleting")
_FORGET = text("DELETE FROM deployments WHERE id = CAST(:id AS uuid)")
_REVISION = text("SELECT nextval('backend_revision')")


class PostgresDeploymentStore:
    """A `DeploymentStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, new: NewDeployment, recipe: Recipe, quota: Quota | None = None) -> Deployment:
        """Stores a deployment, or says what stands in its way."""
        parameters = new_parameters(new, recipe)
        try:
            async with _transaction(self._engine) as connection:
                if quota is not None:
                    await _check_new(connection, parameters, new, quota)
                return deployment_of((await connection.execute(_INSERT, parameters)).mappings().one())
        except IntegrityError:
            async with _transaction(self._engine) as connection:
                row = (await connection.execute(_RIVALS, parameters)).mappings().one_or_none()
        if row is None:
            # It went between the two statements.
            return await self.create(new, recipe, quota)
        return same_or_refused(new, deployment_of(row))

    async def find(self, model_name: str, deployment_name: str) -> Deployment | None:
        """The deployment of that name."""
        async with _transaction(self._engine) as connection:
            found = await connection.execute(_FIND, {"model": model_name, "name": deployment_name})
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
        async with _transaction(self._engine) as connection:
            return [deployment_of(row) for row in (await connection.execute(_PAGE, parameters)).mappings()]

    async def every(self) -> Sequence[Deployment]:
        """All deployments."""
        async with _transaction(self._engine) as connection:
            return [deployment_of(row) for row in (await connection.execute(_EVERY)).mappings()]

    async def change(
        self, deployment_id: str, wish: Wish, *, generation: int, reload: bool = False, quota: Quota | None = None
    ) -> Deployment | None:
        """Replaces the wish if `generation` is still the current one."""
        parameters = {"id": deployment_id, "generation": generation, "reload": reload, **wish_parameters(wish)}
        async with _transaction(self._engine) as connection:
            if quota is not None:
                of_team = await _measured(connection, quota.team)
                others = [one.wish for one in of_team if one.deployment_id != deployment_id]
                before = next((one.wish for one in of_team if one.deployment_id == deployment_id), None)
                check_quota(quota, wish, others=others, before=before)
            row = (await connection.execute(_CHANGE, parameters)).mappings().one_or_none()
        return deployment_of(row) if row is not None else None

    async def hand_over(self, model_name: str, team: str) -> None:
        """Notes whose they are now."""
        async with _transaction(self._engine) as connection:
            await connection.execute(_HAND_OVER, {"model": model_name, "team": team})

    async def request_deletion(self, deployment_id: str, *, generation: int) -> Deployment | None:
        """Marks for removal if `generation` is still the current one."""
        async with _transaction(self._engine) as connection:
            found = await connection.execute(_DELETE, {"id": deployment_id, "generation": generation})
            row = found.mappings().one_or_none()
        return deployment_of(row) if row is not None else None

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Stores the progress."""
        parameters = {
            "id": deployment.deployment_id,
            "generation": deployment.generation,
            "deleting": deployment.deleting,
            **progress_parameters(progress),
        }
        async with _transaction(self._engine) as connection:
            await connection.execute(_RECORD, parameters)

    async def forget(self, deployment_id: str) -> None:
        """Removes the deployment."""
        async with _transaction(self._engine) as connection:
            await connection.execute(_FORGET, {"id": deployment_id})

    async def next_revision(self) -> int:
        """The next number of a sequence: it survives restarts and never goes back."""
        async with _transaction(self._engine) as connection:
            return int((await connection.execute(_REVISION)).scalar_one())


async def _check_new(
    connection: AsyncConnection, parameters: Mapping[str, object], new: NewDeployment, quota: Quota
) -> None:
    of_team = await _measured(connection, quota.team)
    # What is there already is not made beside it: the insertion says so, whatever the quota.
    if (await connection.execute(_RIVALS, parameters)).first() is None:
        check_quota(quota, new.wish, others=[one.wish for one in of_team])


async def _measured(connection: AsyncConnection, team: str) -> Sequence[Deployment]:
    """The team's deployments, while nobody else measures them."""
    await connection.execute(_MEASURE_ALONE, {"team": team})
    return [deployment_of(row) for row in (await connection.execute(_OF_TEAM, {"team": team})).mappings()]


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
async def _transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
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
