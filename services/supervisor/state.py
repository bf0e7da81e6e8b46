"""The state file of a running mesh: what runs where, for `infermesh status`, the tests and whoever looks."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from services.supervisor.engine import Event, Ready
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


def read_ports(data_dir: Path) -> dict[str, int]:
    """The ports of the mesh that runs on `data_dir`, by their names in MeshPorts. Raises SystemExit where none runs."""
    try:
        state: dict[str, dict[str, int]] = orjson.loads((data_dir / _STATE).read_bytes())
    except FileNotFoundError:
        raise SystemExit(f"no mesh runs on {data_dir}; start one with `make run`") from None
    return state["ports"]


class StateFile:
    """A reporter that keeps `mesh.json` true: ports, and the process id of each part that runs."""

    def __init__(self, data_dir: Path, ports: MeshPorts) -> None:
        self._path = data_dir / _STATE
        self._ports = ports
        self._pids: dict[str, int] = {}
        self._complete = False

    def saw(self, event: Event) -> None:
        """Keeps the process ids true."""
        if isinstance(event, Ready):
            self._pids[event.part.name] = event.pid
        else:
            self._pids.pop(event.part.name, None)
        self._write()

    def complete(self) -> None:
        """Everything runs and the first model answers; whoever waits for the mesh may begin."""
        self._complete = True
        self._write()

    def remove(self) -> None:
        """The mesh is down."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Whole or not at all: a reader never sees half a file."""
        state = {
            "complete": self._complete,
            "supervisor_pid": os.getpid(),
            "ports": self._ports.model_dump(),
            "pids": self._pids,
        }
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2))
        fresh.rename(self._path)


def forget(data_dir: Path) -> None:
    """Removes all data of a mesh that does not run."""
    if not data_dir.exists():
        return
    with sole_owner(data_dir):
        shutil.rmtree(data_dir)
