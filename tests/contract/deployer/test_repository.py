"""Packages of artifacts that come from elsewhere: fetched, unpacked, checked before every load."""

import hashlib
import io
import zipfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.artifacts.tar import canonical_tar
from services.common.errors import MeshError, Reason
from services.deployer.adapters.artifact_cache import ArtifactCache
from services.deployer.adapters.repository import FolderPackageStore, digests_in, environments_in
from services.deployer.domain.package import ENVIRONMENT, Package, Stated
from services.supervisor.settings import ROOT

FILES = [("saved_model.pb", b"graph"), ("variables/data", b"x" * 5000)]
TAR = b"".join(canonical_tar((name, len(content), [content]) for name, content in FILES))
ESCAPING = b"".join(canonical_tar([("../out", 1, [b"x"])]))
CONTENTS = {hashlib.sha256(content).hexdigest(): content for content in (b"a model", TAR, ESCAPING)}
MODEL, FOLDER, ESCAPE = CONTENTS


def _tar(files: Sequence[tuple[str, bytes]]) -> bytes:
    return b"".join(canonical_tar((name, len(content), [content]) for name, content in sorted(files)))


def _zip(files: Sequence[tuple[str, bytes]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return made.getvalue()


class Source:
    """An `ArtifactSource` with three artifacts."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    async def size(self, digest: str) -> int:
        return len(CONTENTS[digest])

    async def pieces(self, digest: str, *, offset_bytes: int) -> AsyncGenerator[bytes, None]:
        self.fetched.append(digest)
        yield CONTENTS[digest][offset_bytes:]


def package(digest: str, kind: str = "file", name: str = "model.onnx") -> Package:
    return Package("digits--v1.0.0", "config", "{}", "", digest, name, f"fingerprint of {digest}", kind)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def packages(tmp_path: Path, source: Source) -> FolderPackageStore:
    repository = tmp_path / "repository"
    cache = ArtifactCache(tmp_path / "cache", source=source, bytes_max=10**6, pinned=lambda: digests_in(repository))
    made = FolderPackageStore(repository, runner=ROOT / "deploy" / "triton" / "runner", artifacts=cache)
    await made.start()
    return made


async def test_what_is_on_no_disk_here_is_fetched_and_pinned(
    packages: FolderPackageStore, source: Source, tmp_path: Path
) -> None:
    await packages.ensure(package(MODEL))
    await packages.ensure(package(MODEL))
    assert (tmp_path / "repository" / "digits--v1.0.0" / "1" / "model.onnx").read_bytes() == b"a model"
    assert digests_in(tmp_path / "repository") == {MODEL}
    gone = replace(package(MODEL), artifact_path=str(tmp_path / "gone.onnx"), fingerprint="another")
    await packages.ensure(gone)
    assert source.fetched == [MODEL]
    await packages.remove("digits--v1.0.0")
    assert digests_in(tmp_path / "repository") == set()


async def test_what_the_disk_damaged_is_seen_before_the_next_load_and_fetched_again(
    packages: FolderPackageStore, source: Source, tmp_path: Path
) -> None:
    for wanted, name in ((package(MODEL), ""), (package(FOLDER, "directory", "model"), "variables/data")):
        await packages.ensure(wanted)
        place = tmp_path / "repository" / "digits--v1.0.0" / "1" / wanted.artifact_name / name
        right = place.read_bytes()
        place.chmod(0o644)
        place.write_bytes(b"rotten")
        await packages.ensure(wanted)
        assert place.read_bytes() == right
    # The file of the cache was the same one as the package's, an unpacked folder's was not.
    assert source.fetched == [MODEL, MODEL, FOLDER]


async def test_a_folder_is_unpacked_and_one_that_leads_out_is_not(packages: FolderPackageStore, tmp_path: Path) -> None:
    await packages.ensure(package(FOLDER, "directory", "model"))
    unpacked = tmp_path / "repository" / "digits--v1.0.0" / "1" / "model"
    assert {name: (unpacked / name).read_bytes() for name, _ in FILES} == dict(FILES)
    with pytest.raises(MeshError) as caught:
        await packages.ensure(package(ESCAPE, "directory", "model"))
    assert caught.value.reason is Reason.ARTIFACT_INVALID
    assert {name: (unpacked / name).read_bytes() for name, _ in FILES} == dict(FILES)
    assert not list((tmp_path / "repository.staging").iterdir())


async def test_an_artifact_says_what_it_needs_and_whether_it_is_code(
    packages: FolderPackageStore, source: Source, tmp_path: Path
) -> None:
    await packages.ensure(package(MODEL))
    assert await packages.requirements(package(MODEL)) == Stated((), module=False)

    async def stated(kind: str, content: bytes) -> Stated:
        digest = hashlib.sha256(content).hexdigest()
        CONTENTS[digest] = content
        wanted = package(digest, kind, "artifact")
        await packages.ensure(wanted)
        return await packages.requirements(wanted)

    needs, code, state = ("requirements.txt", b"requests>=2\n# why\n"), ("model.py", b"..."), ("state_dict.pt", b"...")
    lines = ("requests>=2", "# why")
    for kind, pack in (("directory", _tar), ("file", _zip)):
        assert await stated(kind, pack([needs, code])) == Stated(lines, module=False)
        assert await stated(kind, pack([needs, code, state])) == Stated(lines, module=kind == "directory")
        below = [(f"model/{name}", content) for name, content in (needs, code, state)]
        assert await stated(kind, pack(below)) == Stated(lines, module=kind == "directory")
    with pytest.raises(MeshError, match="more than") as caught:
        await stated("directory", _tar([("requirements.txt", b"#" * 300_000), code]))
    assert caught.value.reason is Reason.ARTIFACT_INVALID


async def test_a_package_is_linked_to_the_environment_that_it_runs_in(
    packages: FolderPackageStore, tmp_path: Path
) -> None:
    await packages.ensure(package(MODEL))
    link = tmp_path / "repository" / "digits--v1.0.0" / ENVIRONMENT
    for name in ("one", "one", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
        await packages.link(package(MODEL), tmp_path / name)
        assert link.resolve() == tmp_path / name
        assert environments_in(tmp_path / "repository") == {tmp_path / name}
    assert sorted(one.name for one in link.parent.iterdir()) == sorted(
        ("1", "config.pbtxt", "environment", "package.artifact", "package.fingerprint")
    )
    # What runs by the old package and environment goes on in it until the new environment stands.
    await packages.ensure(package(MODEL))
    await packages.ensure(replace(package(MODEL), fingerprint="another"))
    assert link.resolve() == tmp_path / "two"
