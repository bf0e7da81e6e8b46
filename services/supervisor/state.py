"""The state file of a running mesh: what runs where, for `infermesh status`, the tests and whoever looks."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson

from services.supervisor.ports import MeshPorts

_STATE = "mesh.json"
_LOCK = "lock"


@contextmanager
def sole_owner(data_dir: Path) -> Iterator[None]:
    """Holds the data folder for one mesh. Raises SystemExit where another one holds it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"a mesh already runs on {data_dir}; stop it with Ctrl-C in its terminal, "
                "or start a second one with another INFERMESH_DATA_DIR and other ports"
            ) from None
        yield


@contextmanager
def announced(data_dir: Path, *, ports: MeshPorts, pids: Mapping[str, int]) -> Iterator[Path]:
    """Writes the state file for as long as the mesh is up; it appears whole or not at all."""
    path = data_dir / _STATE
    fresh = path.with_suffix(".new")
    state = {"supervisor_pid": os.getpid(), "ports": ports.model_dump(), "pids": dict(pids)}
    fresh.write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2))
    fresh.rename(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def forget(data_dir: Path) -> None:
    """Removes all data of a mesh that does not run."""
    if not data_dir.exists():
        return
    with sole_owner(data_dir):
        shutil.rmtree(data_dir)
