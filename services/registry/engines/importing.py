"""Registering what another registry holds. It can be repeated: what is there with the same content is left alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.common.telemetry.logging import get_logger
from services.registry.domain.alias import Move
from services.registry.domain.artifacts import Sender
from services.registry.domain.imports import VERSIONS_MAX, FoundVersion, Imported, check_source
from services.registry.domain.registration import Registration, check_registration
from services.registry.domain.version import Stage
from services.registry.domain.violations import check_texts
from services.registry.engines.aliasing import Aliasing
from services.registry.engines.changing import Changing
from services.registry.engines.registering import Registering
from services.registry.ports import Catalogue
from services.registry.ports_reading import ModelSource, ModelSources

log = get_logger(__name__)
_LISTING_WAIT_S = 300.0
_ARTIFACT_WAIT_S = 1800.0


class Importing:
    """The imports."""

    def __init__(
        self,
        *,
        sources: ModelSources,
        catalogue: Catalogue,
        registering: Registering,
        aliasing: Aliasing,
        changing: Changing,
    ) -> None:
        self._sources = sources
        self._catalogue = catalogue
        self._registering = registering
        self._aliasing = aliasing
        self._changing = changing

    async def run(
        self, *, source: str, uri: str, prefix: str, dry_run: bool, caller: Identity, viewer: str
    ) -> Sequence[Imported]:
        """What became of each version, in the order of the source.

        Raises INVALID_FIELD, PERMISSION_DENIED for hosts that are not allowed, DEPENDENCY_UNAVAILABLE where the other
        registry does not answer; what is wrong with one version is said of that one.
        """
        check_texts(name_prefix=prefix)
        opened = self._sources.open(check_source(source), uri)
        try:
            async with asyncio.timeout(_LISTING_WAIT_S):
                found = await _listed(opened, prefix)
            taken: set[tuple[str, str]] = set()
            outcomes: list[Imported] = []
            for one in found:
                doubled = (one.model_name, one.version) in taken
                taken.add((one.model_name, one.version))
                one_ = replace(one, problem="another of them is called so here too") if doubled else one
                outcomes.append(await self._one(opened, one_, dry_run=dry_run, caller=caller, viewer=viewer))
        except TimeoutError as error:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"{uri} did not list its models within {_LISTING_WAIT_S:g} s; narrow the import by name_prefix",
            ) from error
        finally:
            await opened.close()
        log.info("import", source=source, uri=uri, versions=len(outcomes), dry_run=dry_run)
        return outcomes

    async def _one(
        self, source: ModelSource, found: FoundVersion, *, dry_run: bool, caller: Identity, viewer: str
    ) -> Imported:
        outcome = Imported(found.source_name, found.model_name, found.version, "skipped", found.problem)
        if found.problem:
            return outcome
        try:
            there = await self._catalogue.version(found.model_name, found.version, team=viewer)
            if dry_run:
                message = "is there already; an import compares the content" if there is not None else ""
                return replace(outcome, outcome="present" if there is not None else "registered", message=message)
            async with asyncio.timeout(_ARTIFACT_WAIT_S):
                uri = await source.artifact_uri(found, sender=Sender(caller.team, caller.actor, viewer))
                await self._register(found, uri, caller, viewer)
        except MeshError as error:
            return replace(outcome, outcome="failed", message=error.message)
        except TimeoutError:
            return replace(outcome, outcome="failed", message=f"its artifact did not come in {_ARTIFACT_WAIT_S:g} s")
        return replace(outcome, outcome="present" if there is not None else "registered")

    async def _register(self, found: FoundVersion, uri: str, caller: Identity, viewer: str) -> None:
        asked = Registration(
            name=found.model_name,
            version=found.version,
            artifact_uri=uri,
            schema=found.schema,
            metadata={"tags": list(found.tags), "metrics": dict(found.metrics), "imported_from": found.source_name},
            description=found.description,
            lineage=found.lineage,
            stage=Stage.ACTIVE if found.stage is Stage.ACTIVE else "",
            model_card=found.model_card,
            created_by=caller.user,
            team=caller.team,
        )
        check_registration(asked)
        version = await self._registering.register(asked)
        if found.stage is Stage.ARCHIVED and version.stage is Stage.DRAFT:
            await self._changing.stage(
                found.model_name,
                found.version,
                stage=Stage.ARCHIVED,
                reason=f"archived in {found.source_name}",
                etag="",
                team=viewer,
                caller=caller.actor,
            )
        for alias in found.aliases:
            move = Move(found.model_name, alias, found.version, f"imported from {found.source_name}", caller.actor)
            await self._aliasing.point(move, expected_version="", etag="", team=viewer)


async def _listed(source: ModelSource, prefix: str) -> Sequence[FoundVersion]:
    found: list[FoundVersion] = []
    async for one in source.versions(prefix):
        found.append(one)
        if len(found) > VERSIONS_MAX:
            raise MeshError(
                Reason.INVALID_FIELD,
                f"more than {VERSIONS_MAX} versions are found, and one import takes no more; narrow it by name_prefix",
            )
    return found
