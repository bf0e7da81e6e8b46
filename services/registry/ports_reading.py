"""What looking into artifacts needs of the world beside the artifacts themselves."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from services.registry.domain.artifacts import Sender
from services.registry.domain.imports import FoundVersion
from services.registry.domain.signatures import Checked, KeptSignature
from services.registry.domain.team_rules import TeamRules
from services.registry.domain.version import Artifact


class TeamRulesBook(Protocol):
    """What teams demand of artifacts. May raise DEPENDENCY_UNAVAILABLE."""

    async def rules(self, team: str) -> TeamRules:
        """The rules of a team; those of models without one for "", and the strictest for a team that is not known."""
        ...


class SignatureChecker(Protocol):
    """Checks signatures against artifacts."""

    async def check(
        self, content: bytes, artifact: Artifact, *, signers: Sequence[str], now: datetime, fits: bool | None
    ) -> Checked:
        """How the check comes out, where `fits` is what an earlier one found of the manifest (None: none was made).

        Raises what opening the artifact raises, and ARTIFACT_INVALID where its files cannot be told.
        """
        ...


class SignatureBook(Protocol):
    """Where signatures are kept beside their versions. May raise DEPENDENCY_UNAVAILABLE."""

    async def find(self, version_id: str) -> KeptSignature | None:
        """The signature of a version."""
        ...

    async def keep(self, version_id: str, kept: KeptSignature) -> None:
        """Keeps a signature with its check, in place of any before."""
        ...


class ModelSource(Protocol):
    """Another registry. Every call raises DEPENDENCY_UNAVAILABLE where it does not answer."""

    def versions(self, prefix: str) -> AsyncIterator[FoundVersion]:
        """What it holds of models whose names begin so, in its order."""
        ...

    async def artifact_uri(self, found: FoundVersion, *, sender: Sender) -> str:
        """Where the artifact can be registered from, brought to the store where nothing else would reach it.

        Raises ARTIFACT_NOT_FOUND, ARTIFACT_INVALID.
        """
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...


class ModelSources(Protocol):
    """Opens other registries."""

    def open(self, source: str, uri: str) -> ModelSource:
        """The registry at a place. Raises INVALID_FIELD, PERMISSION_DENIED for places that the settings close."""
        ...
