"""Models and versions in PostgreSQL, in the schema `registry`."""

from collections.abc import Sequence, Set

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.registry.adapters.database import transaction
from services.registry.adapters.noting import note_model, note_version
from services.registry.adapters.postgres_removed import refuse_removed
from services.registry.adapters.postgres_teams_sharing import check_registration_room
from services.registry.adapters.queries import MODELS, VERSIONS
from services.registry.adapters.rows import Parameters, model_of, version_of, version_parameters
from services.registry.domain.access import EVERYBODY
from services.registry.domain.conflicts import other_framework, other_team, same_or_refused
from services.registry.domain.version import Model, NewVersion, Version

# The update locks the row, so registrations of one model come one after the other.
_MODEL = text("""
    INSERT INTO models (name, description, framework, created_by, team_id, tags)
    VALUES (:name, :description, :framework, :created_by, CAST(:team_id AS uuid), :tags)
    ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name
    RETURNING id, framework, xmax = 0 AS made, (SELECT t.name FROM teams t WHERE t.id = team_id) AS team
""")
_TOUCH = text("UPDATE models SET updated_at = now() WHERE id = :model_id")
_TEAM = text("SELECT id FROM teams WHERE name = :team")
_INSERT = text("""
    INSERT INTO model_versions
        (model_id, version, precedence, artifact_uri, artifact_digest, artifact_kind, artifact_filename,
         model_size_bytes, framework_version, input_schema, output_schema, tensor_schema, schema_source,
         prediction_mapping, training_metrics, training_metadata, tags, lineage, status, model_card, created_by,
         request_id, feature_views, reference_digest, reference_rows)
    VALUES
        (:model_id, :version, :precedence, :artifact_uri, :artifact_digest, :artifact_kind, :artifact_filename,
         :model_size_bytes, :framework_version, CAST(:input_schema AS jsonb), CAST(:output_schema AS jsonb),
         CAST(:tensor_schema AS jsonb), :schema_source, CAST(:prediction_mapping AS jsonb),
         CAST(:training_metrics AS jsonb), CAST(:training_metadata AS jsonb), :tags, CAST(:lineage AS jsonb),
         :status, :model_card, :created_by, :request_id, CAST(:feature_views AS jsonb),
         :reference_digest, :reference_rows)
    RETURNING id
""")
_RIVALS = text(
    f"{VERSIONS} AND (v.request_id = :request_id OR (m.name = :model AND v.version = :version))"
    " ORDER BY v.request_id = :request_id DESC NULLS LAST LIMIT 1"
)
_BY_ID = text(f"{VERSIONS} AND v.id = CAST(:id AS uuid)")
_VERSION = text(f"{VERSIONS} AND m.name = :model AND v.version = :version")
_LATEST = text(f"{VERSIONS} AND m.name = :model ORDER BY v.precedence DESC LIMIT 1")
_BY_ALIAS = text(
    f"{VERSIONS} AND m.name = :model AND EXISTS"
    " (SELECT FROM model_aliases a WHERE a.version_id = v.id AND a.alias = :version)"
)
_VERSIONS = text(
    f"{VERSIONS} AND m.name = :model AND (:stage = '' OR v.status = :stage)"
    " AND (:below = '' OR v.precedence < :below) ORDER BY v.precedence DESC LIMIT :limit"
)
_ONE = text(f"{MODELS} AND m.name = :name")
_PAGE = text(
    f"{MODELS} AND starts_with(m.name, :prefix) AND (:framework = '' OR m.framework = :framework)"
    " AND m.tags @> CAST(:tags AS text[]) AND (:of_team = '' OR t.name = :of_team) AND m.name > :after"
    " ORDER BY m.name LIMIT :limit"
)
_LOCK_MODEL = text("SELECT name FROM models WHERE id = CAST(:id AS uuid) AND revision = :revision FOR UPDATE")
_LOCK_VERSION = text("SELECT id FROM model_versions WHERE id = CAST(:id AS uuid) AND revision = :revision FOR UPDATE")
_CHANGE_MODEL = text("""
    UPDATE models SET description = :description, tags = :tags, model_card = :card, revision = revision + 1,
        updated_at = now()
    WHERE id = CAST(:id AS uuid) AND revision = :revision
    RETURNING name
""")
_CHANGE_VERSION = text("""
    UPDATE model_versions SET status = :stage, model_card = :card, revision = revision + 1, updated_at = now()
    WHERE id = CAST(:id AS uuid) AND revision = :revision
    RETURNING id
""")
_USES = text("SELECT count(*) FROM model_versions WHERE artifact_digest = :digest")
# Also of versions that are on their way out and may come back.
_USED = text("""
    SELECT artifact_digest FROM model_versions WHERE artifact_digest = ANY(:digests)
    UNION
    SELECT artifact_digest FROM removed_versions WHERE artifact_digest = ANY(:digests) AND state <> 'gone'
""")
_KEEP_SAMPLE = text("""
    INSERT INTO reference_samples (digest, content) VALUES (:digest, :content) ON CONFLICT (digest) DO NOTHING
""")
_SAMPLE = text("SELECT content FROM reference_samples WHERE digest = :digest")


class PostgresCatalogue:
    """A `Catalogue`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def register(self, new: NewVersion) -> Version:
        """Keeps a version, and its model where that is new; or says what stands in its way."""
        for _ in range(2):
            try:
                async with transaction(self._engine) as connection:
                    return await self._register(connection, new)
            except IntegrityError:
                # Someone else took the request id between the look and the insertion: the second look sees it.
                continue
        raise MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"{new.version} of model {new.model_name!r} is being registered by others too; try again",
            retry_after_s=1.0,
        )

    async def model(self, name: str, *, team: str = "") -> Model | None:
        """The model of that name."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_ONE, {"name": name, "viewer": team})).mappings().one_or_none()
        return model_of(row) if row is not None else None

    async def models(
        self, *, prefix: str, framework: str, tags: Sequence[str], of_team: str, after: str, limit: int, team: str = ""
    ) -> Sequence[Model]:
        """At most `limit` models from behind `after`."""
        parameters = {
            "prefix": prefix,
            "framework": framework,
            "tags": list(tags),
            "of_team": of_team,
            "after": after,
            "limit": limit,
            "viewer": team,
        }
        async with transaction(self._engine) as connection:
            return [model_of(row) for row in (await connection.execute(_PAGE, parameters)).mappings()]

    async def version(self, model_name: str, version: str, *, team: str = "") -> Version | None:
        """A version by its name, "latest" or an alias."""
        query = _LATEST if version == "latest" else _VERSION if version.startswith("v") else _BY_ALIAS
        parameters = {"model": model_name, "version": version, "viewer": team}
        async with transaction(self._engine) as connection:
            row = (await connection.execute(query, parameters)).mappings().one_or_none()
            if row is None and query is _VERSION:
                # An alias may begin with a v too.
                row = (await connection.execute(_BY_ALIAS, parameters)).mappings().one_or_none()
        return version_of(row) if row is not None else None

    async def versions(
        self, model_name: str, *, stage: str, below: str, limit: int, team: str = ""
    ) -> Sequence[Version]:
        """At most `limit` versions, highest first, from behind `below`."""
        parameters = {"model": model_name, "stage": stage, "below": below, "limit": limit, "viewer": team}
        async with transaction(self._engine) as connection:
            return [version_of(row) for row in (await connection.execute(_VERSIONS, parameters)).mappings()]

    async def change_model(self, model: Model) -> Model | None:
        """Keeps description, tags and card if the revision is still the current one."""
        parameters = {
            "id": model.model_id,
            "revision": model.revision,
            "description": model.description,
            "tags": list(model.tags),
            "card": model.model_card,
        }
        async with transaction(self._engine) as connection:
            name = (await connection.execute(_LOCK_MODEL, parameters)).scalar_one_or_none()
            if name is None:
                return None
            before = await _model(connection, name)
            await connection.execute(_CHANGE_MODEL, parameters)
            after = await _model(connection, name)
            await note_model(connection, before, after)
        return after

    async def change_version(self, version: Version, *, reason: str = "") -> Version | None:
        """Keeps stage and card if the revision is still the current one."""
        parameters = {
            "id": version.version_id,
            "revision": version.revision,
            "stage": version.stage.value,
            "card": version.model_card,
        }
        async with transaction(self._engine) as connection:
            if (await connection.execute(_LOCK_VERSION, parameters)).one_or_none() is None:
                return None
            before = await _version(connection, version.version_id)
            await connection.execute(_CHANGE_VERSION, parameters)
            after = await _version(connection, version.version_id)
            await note_version(connection, before, after, reason=reason)
        return after

    async def uses(self, digest: str) -> int:
        """How many versions are made of that artifact."""
        async with transaction(self._engine) as connection:
            return int((await connection.execute(_USES, {"digest": digest})).scalar_one())

    async def used(self, digests: Sequence[str]) -> Set[str]:
        """Those of the artifacts that a version is made of."""
        async with transaction(self._engine) as connection:
            return set((await connection.execute(_USED, {"digests": list(digests)})).scalars())

    async def reference(self, digest: str) -> bytes | None:
        """The reference sample of that digest."""
        async with transaction(self._engine) as connection:
            content = (await connection.execute(_SAMPLE, {"digest": digest})).scalar_one_or_none()
        return bytes(content) if content is not None else None

    async def check(self) -> None:
        """A query that any living database answers."""
        async with transaction(self._engine) as connection:
            await connection.execute(text("SELECT 1"))

    async def _register(self, connection: AsyncConnection, new: NewVersion) -> Version:
        team_id = None
        if new.team:
            team_id = (await connection.execute(_TEAM, {"team": new.team})).scalar_one_or_none()
            if team_id is None:
                raise MeshError(
                    Reason.TEAM_NOT_FOUND,
                    f"the caller's team {new.team!r} is not known to the registry; an operator must add it",
                    metadata={"team": new.team},
                )
        model = (await connection.execute(_MODEL, _model_parameters(new, team_id))).mappings().one()
        if new.team and model["team"] != new.team:
            raise other_team(new)
        if model["framework"] != new.content.framework:
            raise other_framework(new, model["framework"])
        asked = {"request_id": new.request_id or None, "model": new.model_name, "version": new.version}
        found = await connection.execute(_RIVALS, asked | {"viewer": EVERYBODY})
        rival = found.mappings().one_or_none()
        if rival is not None:
            return same_or_refused(new, version_of(rival))
        if model["team"]:
            artifact = new.content.artifact
            await check_registration_room(
                connection,
                model["team"],
                new_model=model["made"],
                digest=artifact.digest,
                size_bytes=artifact.size_bytes,
            )
        await refuse_removed(connection, new, new_model=model["made"])
        if new.reference is not None:
            sample = {"digest": new.content.reference_digest, "content": new.reference}
            await connection.execute(_KEEP_SAMPLE, sample)
        made = (await connection.execute(_INSERT, version_parameters(new) | {"model_id": model["id"]})).scalar_one()
        await connection.execute(_TOUCH, {"model_id": model["id"]})
        version = await _version(connection, str(made))
        if model["made"]:
            await note_model(connection, None, await _model(connection, new.model_name))
        await note_version(connection, None, version)
        return version


async def _model(connection: AsyncConnection, name: str) -> Model:
    return model_of((await connection.execute(_ONE, {"name": name, "viewer": EVERYBODY})).mappings().one())


async def _version(connection: AsyncConnection, version_id: str) -> Version:
    return version_of((await connection.execute(_BY_ID, {"id": version_id, "viewer": EVERYBODY})).mappings().one())


def _model_parameters(new: NewVersion, team_id: object) -> Parameters:
    return {
        "name": new.model_name,
        "description": new.description,
        "framework": new.content.framework,
        "created_by": new.created_by,
        "team_id": str(team_id) if team_id is not None else None,
        "tags": list(new.content.tags),
    }
