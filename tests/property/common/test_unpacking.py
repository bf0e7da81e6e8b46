"""Archives of any content: what is packed comes out again, and nothing that is sent leads out of its folder."""

import gzip
import io
import os
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.artifacts.tar import canonical_tar
from services.common.artifacts.unpack import listing, unpack
from services.common.artifacts.unpacking import Limits, Unpacking
from services.common.errors import MeshError, Reason

LIMITS = Limits(entries_max=50, bytes_max=10_000)
parts = st.text("abcXYZ0.-_ é", min_size=1, max_size=120).filter(lambda part: part.strip(". ") != "")
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)
contents = st.dictionaries(paths, st.binary(max_size=1500), max_size=6)
wild = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        ".",
        "..",
        "a//b",
        "./a",
        "A",
        "a",
        "a/b",
        "\0",
        "x\ny",
        "a\\b",
        "é",
        "e\u0301",
    ]
)


def standing(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def acceptable(files: dict[str, bytes]) -> bool:
    unpacking = Unpacking("test", LIMITS)
    try:
        for path, content in sorted(files.items()):
            unpacking.admit(path, size_bytes=len(content), folder=False)
    except MeshError:
        return False
    return True


@settings(max_examples=150)
@given(contents, st.booleans())
def test_a_folder_comes_out_as_it_was_packed_by_us_and_by_python(files: dict[str, bytes], packed: bool) -> None:
    ours = b"".join(canonical_tar((path, len(files[path]), [files[path]]) for path in sorted(files, key=str.encode)))
    with tarfile.open(fileobj=io.BytesIO(ours)) as archive:
        seen = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    assert seen == files
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz" if packed else "w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    kind = "tar.gz" if packed else "directory"
    with tempfile.TemporaryDirectory() as above:
        for number, (content, as_kind) in enumerate(((ours, "directory"), (made.getvalue(), kind))):
            folder = Path(above, str(number))
            try:
                unpack(io.BytesIO(content), as_kind, folder, source="test", limits=LIMITS)  # type: ignore[arg-type]
            except MeshError as error:
                assert error.reason is Reason.ARTIFACT_INVALID  # noqa: PT017 - allowed for what rules forbid
                assert not acceptable(files)
                assert not folder.exists()
            else:
                assert standing(folder) == files
        assert all(not path.name.startswith(".") for path in Path(above).iterdir())


@settings(max_examples=300)
@given(st.lists(st.tuples(wild, st.sampled_from([b"0", b"5", b"2", b"1", b"3", b"6", b"g", b"x"])), max_size=6))
def test_nothing_leads_out_of_the_folder_and_no_link_is_made(entries: list[tuple[str, bytes]]) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../outside"
            archive.addfile(info)
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above, "in", "side")
        folder.parent.mkdir()
        try:
            unpack(io.BytesIO(made.getvalue()), "directory", folder, source="test", limits=LIMITS)
        except MeshError as error:
            assert error.reason is Reason.ARTIFACT_INVALID  # noqa: PT017 - one of two outcomes
        assert os.listdir(above) == ["in"]  # noqa: PTH208
        assert {path.name for path in folder.parent.iterdir()} <= {"side"}
        assert not any(path.is_symlink() for path in Path(above).rglob("*"))


@settings(max_examples=300)
@given(st.binary(max_size=2000), st.sampled_from(["directory", "tar.gz"]), st.booleans())
def test_any_bytes_are_listed_or_refused(content: bytes, kind: str, packed: bool) -> None:
    try:
        listing(
            io.BytesIO(gzip.compress(content) if packed else content),
            kind,  # type: ignore[arg-type]
            source="test",
            limits=LIMITS,
        )
    except MeshError as error:
        assert error.reason is Reason.ARTIFACT_INVALID  # noqa: PT017 - one of two outcomes


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=3000), st.data())
def test_a_changed_or_cut_archive_is_refused_or_lists_within_the_limits(content: bytes, data: st.DataObject) -> None:
    whole = gzip.compress(b"".join(canonical_tar([("a/model.bin", len(content), [content])])))
    cut = data.draw(st.integers(0, len(whole) - 1))
    try:
        listing(io.BytesIO(whole[:cut]), "tar.gz", source="test", limits=LIMITS)
    except MeshError as error:
        assert error.reason is Reason.ARTIFACT_INVALID  # noqa: PT017 - it must be refused
    else:
        raise AssertionError(f"taken though cut at {cut} of {len(whole)}")
