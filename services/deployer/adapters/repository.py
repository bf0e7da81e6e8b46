"""The model repository as a folder that the model servers read.

A package is built in a folder beside the repository and then renamed into it, so a server never meets half of one. The
artifact is a hard link where the file systems allow it, else a copy.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from services.common.errors import MeshError, Reason
from services.deployer.domain.package import SERVING_FILE, Package

_FINGERPRINT_FILE = "package.fingerprint"


class FolderPackageStore:
    """A `PackageStore`."""

    def __init__(self, repository: Path, *, runner: Path) -> None:
        self._repository = repository
        self._staging = repository.with_name(repository.name + ".staging")
        self._runner = sorted(runner.glob("*.py"))
        if not self._runner:
            raise SystemExit(f"{runner} holds no runner; set INFERMESH_DEPLOYER_RUNNER to deploy/triton/runner")
        digest = hashlib.sha256()
        for file in self._runner:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        self._runner_digest = digest.hexdigest()

    async def start(self) -> None:
        """Makes the folders and clears what an interrupted build left."""
        await asyncio.to_thread(self._start)

    def runner_digest(self) -> str:
        """Digest of the runner's files."""
        return self._runner_digest

    async def ensure(self, package: Package) -> None:
        """Makes the repository hold exactly `package`."""
        await asyncio.to_thread(self._ensure, package)

    async def remove(self, server_model_name: str) -> None:
        """Takes the package away."""
        await asyncio.to_thread(self._discard, self._repository / server_model_name)

    def _start(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        self._repository.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(parents=True)

    def _ensure(self, package: Package) -> None:
        place = self._repository / package.server_model_name
        with suppress(OSError):
            if (place / _FINGERPRINT_FILE).read_text() == package.fingerprint:
                return
        built = self._staging / f"{package.server_model_name}.{secrets.token_hex(4)}"
        try:
            self._build(package, built)
            self._discard(place)
            built.rename(place)
        finally:
            shutil.rmtree(built, ignore_errors=True)

    def _build(self, package: Package, folder: Path) -> None:
        version = folder / "1"
        version.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(package.config)
        (version / SERVING_FILE).write_text(package.serving)
        for file in self._runner:
            shutil.copyfile(file, version / file.name)
        if not package.artifact_path:
            raise MeshError(
                Reason.ARTIFACT_NOT_FOUND,
                "the registry keeps the artifact elsewhere than on this machine's disks, which local model servers "
                "cannot load from; let the registry store artifacts in a local folder",
            )
        _take(Path(package.artifact_path), version / package.artifact_name, package.artifact_digest)
        (folder / _FINGERPRINT_FILE).write_text(package.fingerprint)

    def _discard(self, place: Path) -> None:
        """Moves a folder out of the repository in one step, then deletes it."""
        trash = self._staging / f"trash.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            place.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def _take(source: Path, target: Path, digest: str) -> None:
    """Links or copies the artifact, and checks that it is the one that was registered."""
    try:
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:
            # Another file system, or one without links.
            shutil.copyfile(source, target)
        with target.open("rb") as stream:
            seen = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise MeshError(
            Reason.ARTIFACT_NOT_FOUND,
            f"the artifact {source} is gone; restore the registry's data folder, or register the version anew",
        ) from None
    if seen != digest:
        raise MeshError(
            Reason.ARTIFACT_CORRUPT,
            f"the artifact {source} has SHA-256 {seen} where {digest} was registered; "
            "restore it from a backup, or register the model as a new version",
        )
