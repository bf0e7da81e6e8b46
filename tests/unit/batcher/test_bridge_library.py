"""Where the bridge's library is looked for, and what it must be like."""

import struct
from pathlib import Path

import pytest

from services.batcher.bridge.library import MODULE, VARIABLE_FOLDER, BridgeMissingError, environment

_PT_DYNAMIC, _DT_FLAGS_1, _NODELETE = 2, 0x6FFFFFFB, 0x8


def flags_of(library: bytes) -> int:
    """DT_FLAGS_1 of a 64-bit, little-endian ELF file."""
    (headers_at,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    for number in range(count):
        kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", library, headers_at + number * size)
        if kind == _PT_DYNAMIC:
            entries = struct.iter_unpack("<QQ", library[at : at + length])
            return sum(value for tag, value in entries if tag == _DT_FLAGS_1)
    return 0


def test_the_library_is_never_unloaded() -> None:
    """Envoy lets go of it while Python's thread is on its way out of it."""
    folder = Path(environment()["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"])
    assert flags_of((folder / f"lib{MODULE}.so").read_bytes()) & _NODELETE


def test_a_library_that_is_not_there_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE_FOLDER, str(tmp_path))
    with pytest.raises(BridgeMissingError, match=f"{tmp_path}.*is not there: `make setup` compiles it") as caught:
        environment()
    assert VARIABLE_FOLDER in str(caught.value)


def test_python_is_told_to_be_this_python() -> None:
    told = environment()
    assert Path(told["LD_PRELOAD"]).name.startswith("libpython")
    assert str(Path(__file__).parents[3]) in told["PYTHONPATH"].split(":")
