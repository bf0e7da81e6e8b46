"""Where the bridge's library lies, and what a process that loads it needs in its environment."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import find_libpython

MODULE = "infermesh"
"""The dynamic module's name; Envoy looks for `libinfermesh.so`."""
VARIABLE_FOLDER = "INFERMESH_BRIDGE_FOLDER"
_FOLDER = Path(__file__).resolve().parents[3] / ".build" / "bridge"


class BridgeMissingError(Exception):
    """The bridge cannot be loaded; the message says what to do."""


def environment() -> Mapping[str, str]:
    """What Envoy needs to load the bridge, and Python to be this Python in it. Raises BridgeMissingError."""
    folder = Path(os.environ.get(VARIABLE_FOLDER) or _FOLDER)
    library = folder / f"lib{MODULE}.so"
    if not library.is_file():
        raise BridgeMissingError(
            f"{library} is not there: `make setup` compiles it, or {VARIABLE_FOLDER} names the folder that has it"
        )
    python = next((path for path in map(Path, find_libpython.candidate_paths()) if _is_libpython(path)), None)
    if python is None:
        raise BridgeMissingError(
            f"the library of {sys.executable} is not found; use a Python with libpython{sys.version_info.major}."
            f"{sys.version_info.minor}.so (Debian: the package libpython{sys.version_info.major}."
            f"{sys.version_info.minor})"
        )
    return {
        "ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONHOME": f"{sys.prefix}{os.pathsep}{sys.exec_prefix}",
        # The bridge names no library of Python's, so that one build serves every version: it finds the one loaded here.
        "LD_PRELOAD": str(python),
    }


def _is_libpython(path: Path) -> bool:
    return path.name.startswith("libpython") and path.exists()
