"""Finding models and versions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name
from services.common.page import check_page_size
from services.registry.domain.compare import Difference, compare
from services.registry.domain.metadata import check_tags
from services.registry.domain.names import check_reference
from services.registry.domain.pages import position_of
from services.registry.domain.version import FRAMEWORKS, Model, Stage, Version, precedence_key
from services.registry.domain.violations import check_texts
from services.registry.engines.pages import Page, W, collect
from services.registry.ports import Catalogue


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a version's schema differs from that of `base_version`."""

    base_version: str
    differences: Sequence[Difference]


class Reading:
    """The calls that change nothing. `team` is the caller's; empty sees all."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def model(self, name: str, *, team: str) -> Model:
        """The model. Raises MODEL_NOT_FOUND."""
        check_model_name(name)
        found = await self._catalogue.model(name, team=team)
        if found is None:
            raise no_model(name)
        return found

    async def models(
        self,
        show: Callable[[Model], W],
        *,
        prefix: str,
        framework: str,
        tags: Sequence[str],
        of_team: str,
        page_size: int,
        page_token: str,
        team: str,
    ) -> Page[W]:
        """A page of models, in alphabetical order. Raises INVALID_FIELD, INVALID_PAGE_TOKEN."""
        if framework and framework not in FRAMEWORKS:
            raise invalid("framework", framework, "empty or one of " + ", ".join(FRAMEWORKS))
        wanted = check_tags(tags, "tags")
        check_texts(name_prefix=prefix, team=of_team)
        size = check_page_size(page_size)
        query = "\0".join(("models", prefix, framework, of_team, *wanted))

        async def fetch(after: tuple[str, ...], limit: int) -> Sequence[Model]:
            return await self._catalogue.models(
                prefix=prefix,
                framework=framework,
                tags=wanted,
                of_team=of_team,
                after=after[0] if after else "",
                limit=limit,
                team=team,
            )

        after = position_of(page_token, query=query, parts=1)
        return await collect(
            fetch, after=after, size=size, position_of=lambda model: (model.name,), show=show, query=query
        )

    async def version(self, model_name: str, version: str, *, team: str) -> Version:
        """The version of that number, "latest", or of that alias. Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND."""
        check_model_name(model_name)
        reference = check_reference(version)
        found = await self._catalogue.version(model_name, reference, team=team)
        if found is not None:
            return found
        await self.model(model_name, team=team)
        raise MeshError(
            Reason.VERSION_NOT_FOUND,
            f"model {model_name!r} has no version {reference!r}; list its versions to see which are registered",
            metadata={"model_name": model_name, "version": reference},
        )

    async def reference(self, model_name: str, version: str, *, team: str) -> bytes:
        """The reference sample of a version, as JSON. Raises as `version` does, and ARTIFACT_NOT_FOUND."""
        found = await self.version(model_name, version, team=team)
        digest = found.content.reference_digest
        content = await self._catalogue.reference(digest) if digest else None
        if content is None:
            raise MeshError(
                Reason.ARTIFACT_NOT_FOUND,
                f"version {found.version} of model {model_name!r} was registered without a reference sample; versions "
                "never change, so register a new one with reference_sample",
                metadata={"model_name": model_name, "version": found.version},
            )
        return content

    async def versions(
        self,
        model_name: str,
        show: Callable[[Version], W],
        *,
        stage: str,
        page_size: int,
        page_token: str,
        team: str,
    ) -> Page[W]:
        """A page of a model's versions, highest first. Raises MODEL_NOT_FOUND, INVALID_FIELD, INVALID_PAGE_TOKEN."""
        check_model_name(model_name)
        if stage and stage not in tuple(Stage):
            raise invalid("stage", stage, "empty or one of " + ", ".join(Stage))
        size = check_page_size(page_size)
        query = f"versions\0{model_name}\0{stage}"

        async def fetch(below: tuple[str, ...], limit: int) -> Sequence[Version]:
            return await self._catalogue.versions(
                model_name, stage=stage, below=below[0] if below else "", limit=limit, team=team
            )

        def position(version: Version) -> tuple[str, ...]:
            return (precedence_key(version.version),)

        below = position_of(page_token, query=query, parts=1)
        page = await collect(fetch, after=below, size=size, position_of=position, show=show, query=query)
        if not page.items:
            await self.model(model_name, team=team)
        return page

    async def compare(self, model_name: str, version: str, base_version: str, *, team: str) -> Comparison:
        """How `version` differs for callers of `base_version`; empty: the highest active version below.

        Raises VERSION_NOT_FOUND where there is none.
        """
        newer = await self.version(model_name, version, team=team)
        if base_version:
            base = await self.version(model_name, base_version, team=team)
        else:
            below = precedence_key(newer.version)
            active = await self._catalogue.versions(model_name, stage=Stage.ACTIVE, below=below, limit=1, team=team)
            if not active:
                raise MeshError(
                    Reason.VERSION_NOT_FOUND,
                    f"model {model_name!r} has no active version below {newer.version}; name one as base_version",
                    metadata={"model_name": model_name, "version": newer.version},
                )
            base = active[0]
        return Comparison(base.version, compare(base.content.schema, newer.content.schema))


def no_model(name: str) -> MeshError:
    """MODEL_NOT_FOUND for a name."""
    return MeshError(
        Reason.MODEL_NOT_FOUND,
        f"no model {name!r} is registered; list the models to see their names",
        metadata={"model_name": name},
    )
