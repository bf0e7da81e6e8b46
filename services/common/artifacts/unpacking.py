"""What an archive may hold: the rules that keep its files inside the folder that they are unpacked into. Pure.

Names are judged as the strictest file system would see them, so that an archive which passes unpacks everywhere to the
same files: two names that differ in case alone are one file on some disks.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Final

from services.common.errors import MeshError, Reason, shown

NAME_BYTES_MAX: Final = 1024
PART_BYTES_MAX: Final = 255
DEPTH_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold."""

    entries_max: int = 50_000
    bytes_max: int = 16 * 1024**3
    """All its files together, unpacked."""
    ratio_max: int = 200
    """Unpacked bytes for each packed one; weights shrink to a tenth at best, bombs to a thousandth."""
    ratio_from_bytes: int = 64 * 1024**2
    """Below so many unpacked bytes the ratio does not count."""


@dataclass(slots=True)
class Unpacking:
    """The entries of one archive, judged one after another."""

    source: str
    """The archive's name, for messages."""
    limits: Limits = field(default_factory=Limits)
    entries: int = 0
    total_bytes: int = 0
    _files: set[str] = field(default_factory=set)
    _folders: dict[str, str] = field(default_factory=dict)

    def admit(self, name: str, *, size_bytes: int, folder: bool) -> str:
        """The name as a relative path without "." parts; empty for the archive's own root.

        Raises ARTIFACT_INVALID naming the entry and the rule that it breaks.
        """
        self.entries += 1
        if self.entries > self.limits.entries_max:
            raise self.refused(f"it has more than {self.limits.entries_max} entries")
        self.total_bytes += size_bytes
        if self.total_bytes > self.limits.bytes_max:
            raise self.refused(f"its files have more than {self.limits.bytes_max} bytes together")
        parts = self._parts(name)
        if not parts:
            if not folder:
                raise self.refused(f"its entry {shown(name)} names no file")
            return ""
        path = "/".join(parts)
        self._admit_folders(path, parts if folder else parts[:-1])
        folded = _folded(path)
        if not folder:
            if folded in self._files or folded in self._folders:
                raise self.refused(f"its entry {shown(name)} is there twice, or differs from another in case alone")
            self._files.add(folded)
        return path

    def check_ratio(self, *, packed_bytes: int, unpacked_bytes: int) -> None:
        """Raises ARTIFACT_INVALID where so few bytes became so many."""
        limits = self.limits
        if unpacked_bytes > limits.ratio_from_bytes and unpacked_bytes > limits.ratio_max * max(1, packed_bytes):
            raise self.refused(f"it grows to more than {limits.ratio_max} times its size when it is unpacked")
        if unpacked_bytes > limits.bytes_max + 1024 * (limits.entries_max + 2):
            raise self.refused(f"it has more than {limits.bytes_max} bytes when it is unpacked")

    def refused(self, problem: str) -> MeshError:
        """The error that says what is wrong with the archive."""
        return MeshError(
            Reason.ARTIFACT_INVALID,
            f"the archive {shown(self.source)} is not taken: {problem}; pack plain files and folders alone, under "
            "relative names",
        )

    def _parts(self, name: str) -> list[str]:
        if name.startswith("/"):
            raise self.refused(f"its entry {shown(name)} has an absolute path")
        if len(name.encode(errors="surrogatepass")) > NAME_BYTES_MAX:
            raise self.refused(f"its entry {shown(name)} has a name of more than {NAME_BYTES_MAX} bytes")
        if "\\" in name or not _printable(name):
            raise self.refused(
                f"its entry {shown(name)} has a backslash, a control or an unreadable character in its name"
            )
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.refused(f"its entry {shown(name)} leads out of the folder")
        if len(parts) > DEPTH_MAX or any(len(part.encode()) > PART_BYTES_MAX for part in parts):
            raise self.refused(
                f"its entry {shown(name)} is more than {DEPTH_MAX} folders deep, or has a part of more than "
                f"{PART_BYTES_MAX} bytes"
            )
        return parts

    def _admit_folders(self, path: str, parts: list[str]) -> None:
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            folded = _folded(folder)
            if folded in self._files or self._folders.setdefault(folded, folder) != folder:
                raise self.refused(
                    f"its entry {shown(path)} needs the folder {shown(folder)}, which is there as a file "
                    "or in another case"
                )


def _printable(name: str) -> bool:
    return all(character.isprintable() or character == " " for character in name)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
