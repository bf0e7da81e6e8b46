"""Reference samples on disk, each a file named by the SHA-256 of what is in it."""

import re
from collections.abc import Set
from hashlib import sha256
from pathlib import Path
from threading import Lock

from services.common.disk import replace_file

FILES_MAX = 2048
"""The most samples that are kept; each has at most 1 MiB."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENDING = ".json"


class SampleFiles:
    """A folder of samples. All but `in` touches the disk: for threads other than the loop's."""

    def __init__(self, folder: Path, *, files_max: int = FILES_MAX) -> None:
        self._folder = folder
        self._files_max = files_max
        self._digests: frozenset[str] = frozenset()
        self._lock = Lock()

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests

    def look(self) -> None:
        """Sees what is there, and clears what an interrupted write left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("*.new"):
            path.unlink(missing_ok=True)
        found = (path.stem for path in self._folder.glob(f"*{_ENDING}"))
        self._digests = frozenset(name for name in found if _DIGEST.fullmatch(name))

    def read(self, digest: str) -> bytes | None:
        """What is kept. None: the file is gone or damaged, and counts as missing from now on; or it cannot be read now,
        and stays."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError:  # too many open files, for instance: nothing is known against the sample
            return None
        if sha256(content).hexdigest() == digest:
            return content
        with self._lock:
            path.unlink(missing_ok=True)
            self._digests -= {digest}
        return None

    def write(self, digest: str, content: bytes, *, keep: Set[str]) -> None:
        """Keeps a sample, atomically and durably. At the bound those not in `keep` make room, the oldest first. Raises
        OSError, also where there is no room."""
        with self._lock:
            self._make_room(keep)
            self._put(digest, content)

    def _put(self, digest: str, content: bytes) -> None:
        replace_file(self._path(digest), (content,))
        self._digests |= {digest}

    def _make_room(self, keep: Set[str]) -> None:
        if len(self._digests) < self._files_max:
            return
        idle = [path for digest in self._digests - keep if (path := self._path(digest)).exists()]
        if not idle:
            raise OSError(f"{self._files_max} reference samples are kept, the most that may")
        oldest = min(idle, key=lambda path: path.stat().st_mtime)
        oldest.unlink(missing_ok=True)
        self._digests -= {oldest.stem}

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}{_ENDING}"
