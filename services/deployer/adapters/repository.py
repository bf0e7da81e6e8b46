"""The model repository as a folder that the model servers read.

A package is built in a folder beside the repository and then renamed into it, so a server never meets half of one. The
artifact is a hard link where the file systems allow it, else a copy; a folder or an archive is unpacked. Its bytes are
checked against the digest before every load.
"""

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Literal, cast

from services.common.artifacts.unpack import unpack
from services.common.artifacts.unpacking import Limits
from services.common.errors import MeshError, Reason
from services.deployer.adapters.artifact_cache import ArtifactCache
from services.deployer.adapters.native_packages import settle
from services.deployer.adapters.quantizer import OnnxQuantizer
from services.deployer.domain.native import QUANTISED
from services.deployer.domain.package import ENVIRONMENT, RUNNER, SERVING_FILE, Package, Quantised, Served, Stated

_FINGERPRINT_FILE = "package.fingerprint"
_ARTIFACT_FILE = "package.artifact"
"""The artifact's digest, of what is unpacked the digest of each file, what runs it and where it is in the version."""
_MODULE = "model.py"
_STATES = ("state_dict.pt", "state_dict.pth", "state_dict.safetensors")
_REQUIREMENTS = "requirements.txt"
_REQUIREMENTS_BYTES_MAX = 256 * 1024


class FolderPackageStore:
    """A `PackageStore`. Artifacts that are not on this machine's disks come from `artifacts`, where it is given."""

    def __init__(
        self,
        repository: Path,
        *,
        runner: Path,
        artifacts: ArtifactCache | None = None,
        quantizer: OnnxQuantizer | None = None,
    ) -> None:
        self._repository = repository
        self._staging = repository.with_name(repository.name + ".staging")
        self._artifacts = artifacts
        self._quantizer = quantizer
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
        if self._artifacts is not None:
            await self._artifacts.start()

    def runner_digest(self) -> str:
        """Digest of the runner's files."""
        return self._runner_digest

    async def ensure(self, package: Package, sample: bytes = b"") -> None:
        """Makes the repository hold exactly `package`, and newer than what any server has loaded of it; what is
        quantised is proven on `sample`."""
        if await asyncio.to_thread(self._stands, package):
            # Not the configuration, of which Triton takes up the copies alone, nor the artifact, which is a link.
            await asyncio.to_thread(os.utime, self._repository / package.server_model_name / "1" / SERVING_FILE)
            return
        source = Path(package.artifact_path) if package.artifact_path else None
        if source is None or not await asyncio.to_thread(source.is_file):
            source = await self._fetched(package, source)
        try:
            await asyncio.to_thread(self._build_anew, package, source, sample)
        except MeshError as error:
            if error.reason is not Reason.ARTIFACT_CORRUPT or self._artifacts is None:
                raise
            # The disk may have damaged what was fetched; the registry's own copy is checked on its way.
            await self._artifacts.drop(package.artifact_digest)
            source = await self._artifacts.path(package.artifact_digest)
            await asyncio.to_thread(self._build_anew, package, source, sample)

    async def requirements(self, package: Package) -> Stated:
        """What the artifact itself says that it needs."""
        return await asyncio.to_thread(
            _stated, self._repository / package.server_model_name / "1" / package.artifact_name
        )

    async def served(self, package: Package) -> Served:
        """What runs it."""
        said = json.loads(
            await asyncio.to_thread((self._repository / package.server_model_name / _ARTIFACT_FILE).read_text)
        )
        return Served(str(said["backend"]), str(said["because"])) if "backend" in said else Served()

    async def quantised(self, package: Package) -> Quantised:
        """What quantising came to."""
        file = self._repository / package.server_model_name / _ARTIFACT_FILE
        return Quantised(**json.loads(await asyncio.to_thread(file.read_text))["quantised"])

    async def link(self, package: Package, environment: Path) -> None:
        """Has the package run in that environment."""
        await asyncio.to_thread(_link, self._repository / package.server_model_name / ENVIRONMENT, environment)

    async def remove(self, server_model_name: str) -> None:
        """Takes the package away."""
        await asyncio.to_thread(self._discard, self._repository / server_model_name)

    async def _fetched(self, package: Package, missing: Path | None) -> Path:
        if self._artifacts is not None:
            return await self._artifacts.path(package.artifact_digest)
        if missing is not None:
            message = (
                f"the artifact {missing} is gone; restore the registry's data folder, or register the version anew"
            )
        else:
            message = (
                "the registry keeps the artifact elsewhere than on this machine's disks, and none can be fetched here; "
                "let the registry store artifacts in a local folder"
            )
        raise MeshError(Reason.ARTIFACT_NOT_FOUND, message)

    def _start(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        self._repository.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(parents=True)

    def _stands(self, package: Package) -> bool:
        """Whether the package is there, and its artifact still what was registered."""
        place = self._repository / package.server_model_name
        try:
            if (place / _FINGERPRINT_FILE).read_text() != package.fingerprint:
                return False
            said = json.loads((place / _ARTIFACT_FILE).read_text())
            # Packages of before do not say where it is: they are the runner's.
            artifact = place / "1" / str(said.get("place", package.artifact_name))
            if package.precision is not None and _digest(place / "1" / QUANTISED) != said["quantised_digest"]:
                return False
            if package.artifact_kind == "file":
                return _digest(artifact) == package.artifact_digest
            return bool(_digests(artifact) == said["files"])
        except (OSError, ValueError, KeyError):
            return False

    def _build_anew(self, package: Package, source: Path, sample: bytes) -> None:
        place = self._repository / package.server_model_name
        built = self._staging / f"{package.server_model_name}.{secrets.token_hex(4)}"
        try:
            served = self._build(package, source, built, sample)
            if served.backend == RUNNER and (place / ENVIRONMENT).is_symlink():
                # What runs now, and what starts before the new environment stands, goes on in the old one.
                (built / ENVIRONMENT).symlink_to((place / ENVIRONMENT).readlink())
            self._discard(place)
            built.rename(place)
        finally:
            shutil.rmtree(built, ignore_errors=True)

    def _build(self, package: Package, source: Path, folder: Path, sample: bytes) -> Served:
        version = folder / "1"
        version.mkdir(parents=True)
        (version / SERVING_FILE).write_text(package.serving)
        artifact = version / package.artifact_name
        if package.artifact_kind == "file":
            _take(source, artifact, package.artifact_digest)
        else:
            _unpack(source, artifact, package)
        served, artifact, config = settle(version, package)
        (folder / "config.pbtxt").write_text(config)
        if served.backend == RUNNER:
            for file in self._runner:
                shutil.copyfile(file, version / file.name)
        files = _digests(artifact) if package.artifact_kind != "file" else {}
        said: dict[str, object] = {"digest": package.artifact_digest, "files": files}
        said |= asdict(served) | {"place": artifact.name}
        if package.precision is not None:
            assert self._quantizer is not None, "a deployer that takes such wishes has one"
            serving, out = version / SERVING_FILE, version / QUANTISED
            made = self._quantizer.quantise(artifact, out, serving=serving, precision=package.precision, sample=sample)
            said |= {"quantised": asdict(made), "quantised_digest": _digest(out)}
        (folder / _ARTIFACT_FILE).write_text(json.dumps(said))
        (folder / _FINGERPRINT_FILE).write_text(package.fingerprint)
        return served

    def _discard(self, place: Path) -> None:
        """Moves a folder out of the repository in one step, then deletes it."""
        trash = self._staging / f"trash.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            place.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def environments_in(repository: Path) -> Set[Path]:
    """The environments that the packages of a repository run in."""
    return {link.resolve() for link in repository.glob(f"*/{ENVIRONMENT}")}


def digests_in(repository: Path) -> Set[str]:
    """The digests of the artifacts that the packages of a repository are made of."""
    found = set()
    for file in repository.glob(f"*/{_ARTIFACT_FILE}"):
        with suppress(OSError, ValueError, KeyError):
            found.add(str(json.loads(file.read_text())["digest"]))
    return found


def _stated(artifact: Path) -> Stated:
    """Of a folder or a zip the lines of its requirements.txt, and whether it is a PyTorch module by its parts."""
    packed = artifact.is_file() and zipfile.is_zipfile(artifact)
    if not packed and not artifact.is_dir():
        return Stated((), module=False)
    try:
        place = _innermost(zipfile.Path(artifact) if packed else artifact)
        said = place / _REQUIREMENTS
        text = b""
        if said.is_file():
            with said.open("rb") as stream:
                text = stream.read(_REQUIREMENTS_BYTES_MAX + 1)
        module = not packed and (place / _MODULE).is_file() and any((place / one).is_file() for one in _STATES)
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise MeshError(
            Reason.ARTIFACT_INVALID, f"the artifact's {_REQUIREMENTS} cannot be read ({error}); register it anew"
        ) from error
    if len(text) > _REQUIREMENTS_BYTES_MAX:
        raise MeshError(
            Reason.ARTIFACT_INVALID,
            f"the artifact's {_REQUIREMENTS} has more than {_REQUIREMENTS_BYTES_MAX} bytes; register it anew",
        )
    return Stated(tuple(text.decode(errors="replace").splitlines()), module=module)


def _innermost(place: Path | zipfile.Path) -> Path | zipfile.Path:
    """The folder itself, or the only one in it where there is nothing else, as registry and runner look at it."""
    inside: list[Path | zipfile.Path] = list(place.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else place


def _link(link: Path, environment: Path) -> None:
    with suppress(OSError):
        if link.readlink() == environment.absolute():
            return
    fresh = link.with_name(f"{link.name}.{secrets.token_hex(4)}")
    fresh.symlink_to(environment.absolute())
    fresh.replace(link)


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
        seen = _digest(target)
    except FileNotFoundError:
        raise _gone(source) from None
    _check(source, seen, digest)


def _unpack(source: Path, target: Path, package: Package) -> None:
    """Unpacks the artifact once it is known to be the one that was registered."""
    try:
        with source.open("rb") as stream:
            _check(source, hashlib.file_digest(stream, "sha256").hexdigest(), package.artifact_digest)
            stream.seek(0)
            kind = cast("Literal['directory', 'tar.gz']", package.artifact_kind)
            unpack(stream, kind, target, source=package.server_model_name, limits=Limits())
    except FileNotFoundError:
        raise _gone(source) from None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digests(place: Path) -> Mapping[str, str]:
    """Of each file in a folder by its path there; of a file that came in one, its own under "."."""
    return {
        str(path.relative_to(place)): _digest(path)
        for path in (place, *sorted(place.rglob("*")))
        if path.is_file() and not path.is_symlink()
    }


def _gone(source: Path) -> MeshError:
    return MeshError(
        Reason.ARTIFACT_NOT_FOUND,
        f"the artifact {source} is gone; restore the registry's data folder, or register the version anew",
    )


def _check(source: Path, seen: str, digest: str) -> None:
    if seen != digest:
        raise MeshError(
            Reason.ARTIFACT_CORRUPT,
            f"the artifact {source} has SHA-256 {seen} where {digest} was registered; "
            "restore it from a backup, or register the model as a new version",
        )
