"""What the engines need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import Sequence
from typing import Protocol

from services.registry.domain.artifact_uri import ArtifactPlace
from services.registry.domain.schemas import StatedSchema
from services.registry.domain.version import Artifact, Model, NewVersion, Version


class Catalogue(Protocol):
    """Where models and versions are kept. Every call may raise DEPENDENCY_UNAVAILABLE.

    `team` is whose eyes look: models of other teams are as if they were not there. Empty sees all.
    """

    async def register(self, new: NewVersion) -> Version:
        """Keeps a version, and its model where that is new, in one step. The same content again returns what is there.

        Raises VERSION_EXISTS where the version has other content, INVALID_FIELD where the model has another framework,
        REQUEST_ID_REUSED where the id belongs to another registration, TEAM_NOT_FOUND where the new version's team is
        none, PERMISSION_DENIED where the model is another team's.
        """
        ...

    async def model(self, name: str, *, team: str = "") -> Model | None:
        """The model of that name."""
        ...

    async def models(
        self, *, prefix: str, framework: str, tags: Sequence[str], of_team: str, after: str, limit: int, team: str = ""
    ) -> Sequence[Model]:
        """At most `limit` models in alphabetical order, from behind the name `after`. Empty filters match all."""
        ...

    async def version(self, model_name: str, version: str, *, team: str = "") -> Version | None:
        """The version of that canonical name; "latest" for the highest; else the one that this alias points to."""
        ...

    async def versions(
        self, model_name: str, *, stage: str, below: str, limit: int, team: str = ""
    ) -> Sequence[Version]:
        """At most `limit` versions, highest first, from behind the precedence key `below` (empty: from the highest)."""
        ...

    async def check(self) -> None:
        """Returns where the catalogue answers."""
        ...


class ArtifactStore(Protocol):
    """Keeps bytes by their digest, for good."""

    async def keep(self, place: ArtifactPlace, *, digest: str = "") -> Artifact:
        """Takes a copy, synced to disk when this returns; of bytes that are kept already it makes none.

        Raises ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT where the bytes have not the `digest` that is given,
        ARTIFACT_INVALID where they are too many, NOT_IMPLEMENTED for folders, DEPENDENCY_UNAVAILABLE where the disk
        refuses.
        """
        ...

    def path_of(self, digest: str) -> str:
        """Absolute path of the copy, whether it is there or not."""
        ...


class ArtifactReader(Protocol):
    """Looks into artifacts."""

    async def stated(self, artifact: Artifact) -> StatedSchema:
        """The tensors that an ONNX artifact states. Raises ARTIFACT_INVALID where it is none or needs further files."""
        ...
