"""What looking into artifacts needs, in memory, and the artifacts that tests read."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from services.registry.adapters.readers.artifact_readers import read_artifact
from services.registry.domain.frameworks import Understood
from services.registry.domain.team_rules import TeamRules
from services.registry.domain.version import Artifact

ARTIFACTS = Path(__file__).parents[1] / "data" / "artifacts"


class MemoryTeamRules:
    """A `TeamRulesBook`."""

    def __init__(self, rules: Mapping[str, TeamRules] | None = None) -> None:
        self.known = dict(rules or {})

    async def rules(self, team: str) -> TeamRules:
        """The rules of a team."""
        return self.known.get(team, TeamRules(team))


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
