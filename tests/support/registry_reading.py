"""What looking into artifacts needs, in memory, and the artifacts that tests read."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from services.registry.adapters.readers.artifact_readers import read_artifact
from services.registry.domain.frameworks import Understood
from services.registry.domain.signatures import Checked, KeptSignature, Signature
from services.registry.domain.team_rules import TeamRules
from services.registry.domain.version import Artifact
from services.registry.engines.verifying import Verifying
from tests.support.clock import FakeClock

ARTIFACTS = Path(__file__).parents[1] / "data" / "artifacts"


class MemoryTeamRules:
    """A `TeamRulesBook`."""

    def __init__(self, rules: Mapping[str, TeamRules] | None = None) -> None:
        self.known = dict(rules or {})

    async def rules(self, team: str) -> TeamRules:
        """The rules of a team."""
        return self.known.get(team, TeamRules(team))


class MemorySignatureBook:
    """A `SignatureBook`."""

    def __init__(self) -> None:
        self.kept: dict[str, KeptSignature] = {}

    async def find(self, version_id: str) -> KeptSignature | None:
        """The signature of a version."""
        return self.kept.get(version_id)

    async def keep(self, version_id: str, kept: KeptSignature) -> None:
        """Keeps a signature."""
        self.kept[version_id] = kept


class FakeChecker:
    """A `SignatureChecker` for which the signature of an artifact is the name of a trusted signer."""

    def __init__(self) -> None:
        self.manifests_read = 0

    async def check(
        self, content: bytes, artifact: Artifact, *, signers: Sequence[str], now: datetime, fits: bool | None
    ) -> Checked:
        """Verified where the signer is among those trusted."""
        self.manifests_read += fits is None
        signer, verified = content.decode(), content.decode() in signers
        problem = "" if verified else f"{signer} is not trusted with {artifact.filename}"
        return Checked(Signature("public-key", verified, signer, problem, now), True)


def unsigned(rules: MemoryTeamRules | None = None, checker: FakeChecker | None = None) -> Verifying:
    """Checks of signatures over nothing but memory."""
    return Verifying(
        checker=checker or FakeChecker(),
        book=MemorySignatureBook(),
        rules=rules or MemoryTeamRules(),
        clock=FakeClock(),
    )


def packed(files: Mapping[str, bytes], *, mode: str = "w", top: str = "model") -> bytes:
    """A tar of a folder `top` with these files; "w:gz" compresses it."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{top}/{name}" if top else name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return into.getvalue()


def folder_files(folder: Path) -> Mapping[str, bytes]:
    """The files of a folder by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def understood(content: bytes, *, filename: str = "", kind: str = "file") -> Understood:
    """What the readers say of an artifact. Raises ARTIFACT_INVALID."""
    return read_artifact(io.BytesIO(content), Artifact("0" * 64, kind, filename, len(content)))


def understood_sample(name: str) -> Understood:
    """What they say of one of the kept samples; of a folder, packed as the store packs it."""
    path = ARTIFACTS / name
    if path.is_dir():
        return understood(packed(folder_files(path)), filename=name, kind="directory")
    return understood(path.read_bytes(), filename=name)
