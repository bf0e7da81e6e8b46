"""Artifacts in frames: every byte comes out from every place on, and what was changed does not open."""

import hashlib
import io
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import MeshError, Reason
from services.registry.adapters import frames
from services.registry.adapters.artifact_keys import KeyRing, load_keys
from services.registry.adapters.frames import BrokenFramesError, FrameFile, FrameReader, FrameWriter

SMALL = 64
"""Bytes of a frame here, so that examples of some hundred bytes have many."""


def ring(*keys: bytes) -> KeyRing:
    with tempfile.TemporaryDirectory() as above:
        files = [Path(above, str(number)) for number in range(len(keys))]
        for file, key in zip(files, keys, strict=True):
            file.write_bytes(key)
        return load_keys(files)


OLD, NEW = b"o" * 32, b"n" * 32
RINGS = {"none": KeyRing(), "old": ring(OLD), "new": ring(NEW), "both": ring(NEW, OLD)}
contents = st.one_of(st.binary(max_size=400), st.integers(0, 5).map(lambda count: b"x" * SMALL * count))


def written(content: bytes, *, compress: bool, keys: KeyRing, step: int = 50) -> bytes:
    stream = io.BytesIO()
    with patch.object(frames, "FRAME_BYTES", SMALL):
        writer = FrameWriter(stream, compress=compress, keys=keys)
        for begin in range(0, len(content), step):
            writer.write(content[begin : begin + step])
        writer.finish(hashlib.sha256(content).digest())
    return stream.getvalue()


def read(stored: bytes, keys: KeyRing) -> bytes:
    with patch.object(frames, "FRAME_BYTES", SMALL):
        reader = FrameReader(BytesStretch(stored), keys)
        return b"".join(reader.frame(number) for number in range(reader.frames))


class BytesStretch:
    """Bytes in memory as a `Stretch`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_bytes = len(content)

    def read_at(self, offset: int, size: int) -> bytes:
        """Those bytes."""
        return self._content[offset : offset + size]

    def close(self) -> None:
        """Nothing to give up."""


@settings(max_examples=200)
@given(contents, st.booleans(), st.sampled_from(["none", "old"]), st.integers(1, 200), st.data())
def test_every_byte_comes_out_from_every_place_on(
    content: bytes, compress: bool, keys: str, step: int, data: st.DataObject
) -> None:
    stored = written(content, compress=compress, keys=RINGS[keys], step=step)
    assert read(stored, RINGS[keys]) == content
    offset = data.draw(st.integers(0, len(content) + 3))
    size = data.draw(st.integers(0, 300))
    with patch.object(frames, "FRAME_BYTES", SMALL):
        reader = FrameReader(BytesStretch(stored), RINGS[keys])
        assert (reader.size_bytes, reader.digest) == (len(content), hashlib.sha256(content).hexdigest())
        with io.BufferedReader(FrameFile(reader)) as stream:
            stream.seek(offset)
            assert stream.read(size) == content[offset : offset + size]


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=400), st.booleans(), st.data())
def test_no_changed_byte_of_an_encrypted_artifact_passes(content: bytes, compress: bool, data: st.DataObject) -> None:
    stored = bytearray(written(content, compress=compress, keys=RINGS["old"]))
    place = data.draw(st.integers(0, len(stored) - 1))
    stored[place] ^= data.draw(st.integers(1, 255))
    try:
        assert read(bytes(stored), RINGS["old"]) == content
    except BrokenFramesError:
        return
    except MeshError as error:
        # The id of the key was changed to one that is not there.
        assert error.reason is Reason.DEPENDENCY_UNAVAILABLE  # noqa: PT017 - one of two
        return
    raise AssertionError(f"byte {place} was changed and nobody saw it")


@settings(max_examples=100)
@given(st.binary(min_size=SMALL + 1, max_size=400), st.sampled_from(["none", "old"]), st.data())
def test_what_is_cut_off_or_another_artifacts_does_not_open(content: bytes, keys: str, data: st.DataObject) -> None:
    stored = written(content, compress=False, keys=RINGS[keys])
    with pytest.raises(BrokenFramesError):
        read(stored[: data.draw(st.integers(0, len(stored) - 1))], RINGS[keys])
    if keys == "old":
        other = written(bytes(len(content)), compress=False, keys=RINGS[keys])
        head = frames.HEADER_BYTES
        # The same sizes all over, so nothing but the ciphers tells: another header, frames in another order.
        with pytest.raises(BrokenFramesError):
            read(other[:head] + stored[head:], RINGS[keys])
        sealed = SMALL + 16
        swapped = stored[:head] + stored[head + sealed : head + 2 * sealed] + stored[head : head + sealed]
        if len(content) >= 2 * SMALL:
            with pytest.raises(BrokenFramesError):
                read(swapped + stored[len(swapped) :], RINGS[keys])


def test_keys_rotate_and_one_that_is_missing_is_named() -> None:
    content = b"weights" * 30
    before, after = (written(content, compress=False, keys=RINGS[name]) for name in ("old", "both"))
    assert read(before, RINGS["both"]) == read(after, RINGS["both"]) == read(after, RINGS["new"]) == content
    for stored, keys in ((before, "new"), (after, "old"), (after, "none")):
        with pytest.raises(MeshError) as caught:
            read(stored, RINGS[keys])
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert "ARTIFACT_KEY_FILE" in caught.value.message


@pytest.mark.parametrize("text", [b"", b"short", b"z" * 64, b"a" * 31, b"a" * 33])
def test_what_is_no_key_is_refused_at_the_start(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(text)
    with pytest.raises(SystemExit, match="holds no key"):
        load_keys([tmp_path / "key"])
    with pytest.raises(SystemExit, match="cannot be read"):
        load_keys([tmp_path / "gone"])
