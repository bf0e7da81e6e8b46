"""Registering a version: check, keep the artifact, look into it, agree on the schema, commit. In this order.

The artifact is on disk before the row that names it. A process that dies between the two leaves bytes that no row
names; the same call again finds them kept and completes.
"""

from services.common.names import check_version
from services.registry.domain.artifact_uri import parse_artifact_uri
from services.registry.domain.artifacts import Sender
from services.registry.domain.feature_views import check_views_fit
from services.registry.domain.frameworks import check_framework, check_loadable, check_safe, completed
from services.registry.domain.mapping import agree_mapping
from services.registry.domain.metadata import class_names_of, lineage_of, metrics_of, tags_of
from services.registry.domain.reference import ReferenceSample, check_sample, sample_of
from services.registry.domain.registration import Registration, description_for
from services.registry.domain.schemas import agree, short_schema
from services.registry.domain.short_form import parse_short_form
from services.registry.domain.version import Artifact, Content, NewVersion, Stage, Version
from services.registry.engines.verifying import Verifying
from services.registry.ports import ArtifactReader, ArtifactStore, Catalogue
from services.registry.ports_reading import TeamRulesBook


class Registering:
    """Takes registrations that `check_registration` has passed."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        store: ArtifactStore,
        reader: ArtifactReader,
        rules: TeamRulesBook,
        verifying: Verifying,
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._reader = reader
        self._rules = rules
        self._verifying = verifying

    async def register(self, asked: Registration) -> Version:
        """The registered version; the same one for the same content again.

        Raises ARTIFACT_NOT_FOUND, ARTIFACT_INVALID, ARTIFACT_CORRUPT, SCHEMA_REQUIRED, SCHEMA_MISMATCH,
        SCHEMA_VIOLATION for a reference sample that does not fit, VERSION_EXISTS, REQUEST_ID_REUSED, INVALID_FIELD, and
        what `Catalogue.register` raises beyond.
        """
        artifact = await self._store.keep(
            parse_artifact_uri(asked.artifact_uri),
            digest=asked.artifact_digest,
            sender=Sender(asked.team, asked.created_by, viewer=asked.team),
        )
        sample = sample_of(asked.reference) if asked.reference is not None else None
        content = await self._content(asked, artifact, sample)
        version = await self._catalogue.register(
            NewVersion(
                model_name=asked.name,
                version=check_version(asked.version),
                content=content,
                artifact_uri=asked.artifact_uri,
                description=description_for(asked),
                stage=Stage(asked.stage or Stage.DRAFT),
                model_card=asked.model_card,
                request_id=asked.request_id,
                created_by=asked.created_by,
                team=asked.team,
                reference=sample.content if sample is not None else None,
            )
        )
        # Behind the commit: a version without its signature may not be deployed where one is required, and the same
        # call again brings it.
        return await self._verifying.take(version, asked.signature) if asked.signature else version

    async def _content(self, asked: Registration, artifact: Artifact, sample: ReferenceSample | None) -> Content:
        seen = await self._reader.read(artifact)
        check_framework(asked.framework, seen, artifact)
        check_loadable(seen, artifact)
        if seen.unsafe:
            rules = await self._rules.rules(await self._team(asked))
            check_safe(seen, artifact, allowed=rules.allow_unsafe, team=rules.team)
        agreed = agree(
            seen.stated,
            asked.schema,
            inputs=parse_short_form(asked.input_schema, "input_schema"),
            outputs=parse_short_form(asked.output_schema, "output_schema"),
            why=seen.undeclared,
        )
        check_views_fit(asked.feature_views, agreed.schema)
        if asked.reference is not None:
            check_sample(asked.reference, agreed.schema)
        return Content(
            framework=seen.framework,
            artifact=artifact,
            schema=agreed.schema,
            schema_source=agreed.source,
            mapping=agree_mapping(
                asked.mapping, agreed.schema, class_names_of(asked.metadata), stated_names=seen.class_names
            ),
            framework_version=asked.framework_version or seen.framework_version,
            input_schema=short_schema(agreed.schema.inputs, asked.input_schema),
            output_schema=short_schema(agreed.schema.outputs, asked.output_schema),
            metadata=asked.metadata,
            lineage=completed(lineage_of(asked.lineage, asked.metadata), seen.lineage),
            metrics=metrics_of(asked.metadata),
            tags=tags_of(asked.metadata),
            feature_views=asked.feature_views,
            reference_digest=sample.digest if sample is not None else "",
            reference_rows=sample.rows if sample is not None else 0,
        )

    async def _team(self, asked: Registration) -> str:
        """Whose rules count: the owner's of a model that is there, else the caller's."""
        model = await self._catalogue.model(asked.name)
        return model.team if model is not None else asked.team
