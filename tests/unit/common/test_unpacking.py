"""What an archive may hold, rule by rule."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from services.common.artifacts.tar import canonical_tar
from services.common.artifacts.unpack import listing, unpack
from services.common.artifacts.unpacking import Limits
from services.common.errors import MeshError, Reason

LIMITS = Limits(entries_max=3, bytes_max=200 * 1024**2)


def archive(*entries: tuple[str, bytes, str], mode: str = "w") -> io.BytesIO:
    """A tar of (name, type, link's target), each file of one byte."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]
        for name, kind, target in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = 1 if kind == b"0" else 0
            tar.addfile(info, io.BytesIO(b"x"))
    made.seek(0)
    return made


def refusal(stream: io.BytesIO, kind: str = "directory", limits: Limits = LIMITS) -> str:
    with pytest.raises(MeshError) as caught:
        listing(stream, kind, source="model.tar.gz", limits=limits)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.ARTIFACT_INVALID
    assert "model.tar.gz" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("/etc/passwd", b"0", "")], ["/etc/passwd", "absolute"]),
        ([("a/../../b", b"0", "")], ["a/../../b", "leads out"]),
        ([("link", b"2", "/etc")], ["link", "a link"]),
        ([("hard", b"1", "a")], ["hard", "a hard link"]),
        ([("tty", b"3", "")], ["tty", "a device"]),
        ([("pipe", b"6", "")], ["pipe", "a pipe"]),
        ([("a", b"0", ""), ("./a", b"0", "")], ["a", "twice"]),
        ([("Model.bin", b"0", ""), ("model.bin", b"0", "")], ["model.bin", "case alone"]),
        ([("A/x", b"0", ""), ("a/y", b"0", "")], ["'a'", "another case"]),
        ([("a", b"0", ""), ("a/b", b"0", "")], ["'a'", "as a file"]),
        ([("a/b", b"0", ""), ("a", b"0", "")], ["'a'", "twice"]),
        ([(f"f{number}", b"0", "") for number in range(4)], ["more than 3 entries"]),
        ([("a\\b", b"0", "")], ["backslash"]),
        ([("a\nb", b"0", "")], ["control"]),
        ([("/".join("a" * 40), b"0", "")], ["32 folders deep"]),
        ([("a" * 300, b"0", "")], ["255 bytes"]),
        ([("a/" * 600, b"0", "")], ["1024 bytes"]),
    ],
)
def test_what_breaks_a_rule_is_named_with_the_rule(entries: list[tuple[str, bytes, str]], words: list[str]) -> None:
    message = refusal(archive(*entries))
    assert all(word in message for word in words), message


def test_a_bomb_is_refused_before_it_is_unpacked_whole() -> None:
    bomb = gzip.compress(b"".join(canonical_tar([("zeros", 150 * 1024**2, (bytes(1024**2) for _ in range(150)))])))
    assert "more than 200 times" in refusal(io.BytesIO(bomb), "tar.gz")
    small = Limits(entries_max=3, bytes_max=1000)
    message = refusal(io.BytesIO(b"".join(canonical_tar([("zeros", 1001, [bytes(1001)])]))), limits=small)
    assert "1000 bytes" in message


def test_a_header_that_claims_to_be_huge_costs_nothing() -> None:
    made = bytearray(archive(("a", b"x", "")).getvalue())
    made[124:136] = b"%011o\0" % (2**30)
    made[148:156] = b"%06o\0 " % (sum(made[:148]) + 256 + sum(made[156:512]))
    assert "bytes of attributes" in refusal(io.BytesIO(bytes(made)))


def test_what_goes_on_behind_its_end_is_refused() -> None:
    content = b"".join(canonical_tar([("a", 1, [b"x"])]))
    assert "behind its end" in refusal(io.BytesIO(content + b"more"))


def test_unpacking_makes_the_folder_or_nothing(tmp_path: Path) -> None:
    good = archive(("./", b"5", ""), ("./model/weights.bin", b"0", ""), mode="w:gz")
    unpack(good, "tar.gz", tmp_path / "good", source="good", limits=LIMITS)
    assert (tmp_path / "good" / "model" / "weights.bin").read_bytes() == b"x"
    with pytest.raises(MeshError):
        unpack(archive(("a", b"0", ""), ("../b", b"0", "")), "directory", tmp_path / "bad", source="bad", limits=LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
