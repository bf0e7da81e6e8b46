"""Whatever becomes of a real artifact on its way: it is understood, or refused as invalid. Nothing else."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import MeshError, Reason
from services.registry.domain.frameworks import Understood
from tests.support.registry_onnx import model
from tests.support.registry_reading import ARTIFACTS, folder_files, packed, understood

PICKLES = {
    # Of {"steps": [("a", [1, 2.5, "x", None, True])], "classes_": ["no", "yes"]}, by protocol.
    0: (
        b"(dp0\nVsteps\np1\n(lp2\n(Va\np3\n(lp4\nI1\naF2.5\naVx\np5\naNaI01\natp6\nasVclasses_\np7\n"
        b"(lp8\nVno\np9\naVyes\np10\nas."
    ),
    2: (
        b"\x80\x02}q\x00(X\x05\x00\x00\x00stepsq\x01]q\x02X\x01\x00\x00\x00aq\x03]q\x04(K\x01G@\x04\x00\x00\x00\x00\x00\x00"
        b"X\x01\x00\x00\x00xq\x05N\x88e\x86q\x06aX\x08\x00\x00\x00classes_q\x07]q\x08(X\x02\x00\x00\x00noq\t"
        b"X\x03\x00\x00\x00yesq\neu."
    ),
    4: (
        b"\x80\x04\x95>\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x05steps\x94]\x94\x8c\x01a\x94]\x94(K\x01G@\x04\x00\x00"
        b"\x00\x00\x00\x00\x8c\x01x\x94N\x88e\x86\x94a\x8c\x08classes_\x94]\x94(\x8c\x02no\x94\x8c\x03yes\x94eu."
    ),
}
SAMPLES: dict[str, tuple[bytes, str]] = {
    **{
        path.name: (path.read_bytes(), "file")
        for path in sorted(ARTIFACTS.iterdir())
        if path.is_file() and path.suffix != ".md"
    },
    **{path.name: (packed(folder_files(path)), "directory") for path in sorted(ARTIFACTS.iterdir()) if path.is_dir()},
    "savedmodel.tar.gz": (packed(folder_files(ARTIFACTS / "savedmodel"), mode="w:gz"), "tar.gz"),
    "flowers.onnx": (model().SerializeToString(), "file"),
    **{f"pickle-{protocol}": (content, "file") for protocol, content in PICKLES.items()},
}


def read_or_refuse(content: bytes, kind: str) -> Understood | None:
    refusals: list[MeshError] = []
    try:
        return understood(content, kind=kind)
    except MeshError as error:
        refusals.append(error)
    assert [error.reason for error in refusals] == [Reason.ARTIFACT_INVALID]
    assert len(refusals[0].message) < 4000
    return None


def changed(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """The content with, at each place, some bytes replaced by others."""
    made = bytearray(content)
    for place, gone, put in changes:
        at = int(place * len(made))
        made[at : at + gone] = put
    return bytes(made)


changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 8),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from(
                [b"\xff" * 8, b"\x7f" * 8, b"\0" * 8, b"{" * 64, b"[" * 64, b'"', b"(" * 64, b"99999999999"]
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(max_examples=60, deadline=None)
@given(made=changes)
def test_changed_artifacts(name: str, made: list[tuple[float, int, bytes]]) -> None:
    content, kind = SAMPLES[name]
    read_or_refuse(changed(content, made), kind)


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(max_examples=25, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True))
def test_cut_artifacts(name: str, place: float) -> None:
    content, kind = SAMPLES[name]
    read_or_refuse(content[: int(len(content) * place)], kind)


@pytest.mark.parametrize(
    "begins", [b"", b"{", b"PK\x03\x04", b"\x80\x05", b"tree\nnum_class=1\n", b"\x08", b"\x1f\x8b"]
)
@settings(max_examples=60, deadline=None)
@given(rest=st.binary(max_size=300), kind=st.sampled_from(["file", "directory", "tar.gz"]))
def test_any_bytes(begins: bytes, rest: bytes, kind: str) -> None:
    read_or_refuse(begins + rest, kind)


def bomb_zip() -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b"[" * 300_000_000)
    return into.getvalue()


def many_entries() -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for number in range(3000):
            archive.writestr(f"a/{number}", b"")
    return into.getvalue()


def memo_bomb() -> bytes:
    """Each list holds the one before many times over."""
    return (
        b"\x80\x02]q\0"
        + b"".join(b"]q" + bytes([n + 1]) + b"(" + bytes([104, n]) * 99 + b"e" for n in range(60))
        + b"."
    )


BOMBS: dict[str, Callable[[], tuple[bytes, str]]] = {
    "zip": lambda: (bomb_zip(), "file"),
    "tar.gz": lambda: (packed({"model.py": bytes(300_000_000)}, mode="w:gz"), "tar.gz"),
    "many entries": lambda: (many_entries(), "file"),
    "deep JSON": lambda: (b'{"learner":{"feature_names":' + b"[" * 3_000_000, "file"),
    "open strings": lambda: (b'{"learner":{"gradient_booster":"' + b'\\"' * 3_000_000, "file"),
    "deep UBJSON": lambda: (b"{L" + bytes(7) + b"\x07learner{" + b"U\x01a[" * 1_000_000, "file"),
    "counted UBJSON": lambda: (b"{U\x07learner{U\x0dfeature_names[$Z#L" + b"\x7f" + b"\xff" * 7, "file"),
    "pickle of lists": lambda: (b"\x80\x04" + b"]" * 3_000_000, "file"),
    "pickle of marks": lambda: (b"\x80\x04" + b"(" * 3_000_000 + b".", "file"),
    "pickle of itself": lambda: (memo_bomb(), "file"),
    "long integers": lambda: (b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(1000) + b".", "file"),
    "YAML aliases": lambda: (
        packed(
            {
                "MLmodel": b"a0: &a0 [x]\n"
                + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 50)) for n in range(1, 40))
                + b"flavors: *a39\n"
            }
        ),
        "directory",
    ),
    "YAML nests": lambda: (packed({"MLmodel": b"flavors: " + b"[" * 100_000}), "directory"),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_are_refused_in_bounded_memory_and_steps(name: str) -> None:
    content, kind = BOMBS[name]()
    tracemalloc.start()
    try:
        assert read_or_refuse(content, kind) is None or name == "pickle of itself"
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Above what is seen, and far below what the bombs would take.
    assert peak_bytes < 600_000_000, f"{peak_bytes / 1e6:.0f} MB"
