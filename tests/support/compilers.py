"""The C compilers that there may be."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

_ZIG = Path(__file__).resolve().parents[2] / ".build" / "zig" / "bin" / "python"


def compilers() -> Iterator[Sequence[str]]:
    """Those that `tools/bridge.sh` may have used."""
    if named := os.environ.get("CC"):
        yield named.split()
    yield from ([name] for name in ("cc", "gcc", "clang") if shutil.which(name))
    if _ZIG.exists():
        yield [str(_ZIG), "-m", "ziglang", "cc"]
