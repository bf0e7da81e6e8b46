"""Where each microsecond goes: CPU time of every thread, out of `/proc/PID/task/TID/schedstat`.

The kernel counts nanoseconds on a core, whatever else runs beside, so the figures of a disturbed run are of use where
its throughput is not, though cold caches are in them.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROC = Path("/proc")
APART = "apart-"
"""What the parts of a second mesh are called with, all but its batcher, so that both can be measured at once."""
_STUB = "triton_python_b"
"""How the kernel shortens the name of the process in which Triton's python backend runs a model."""
_WORKER = "wrk:worker"
_INTERPRETER = "py:app"
"""How the bridge calls the thread of the application `app`."""
_HOSTS = frozenset({"gateway", "batcher"})
"""The parts that are an Envoy; whichever of them has the batcher in it has an interpreter too."""

_TRITONS = frozenset({"bare", "triton", f"{APART}triton"})


@dataclass(frozen=True, slots=True)
class Thread:
    """Which thread it is."""

    part: str
    """The part of the mesh, or `bare`."""
    process: str
    """Its process's name, as the kernel shortens it."""
    name: str
    pid: int
    tid: int


Reading = Mapping[Thread, int]
"""Nanoseconds on a core since each thread's start."""


def read_threads(part: str, pid: int) -> dict[Thread, int]:
    """All threads of a process and of what it started; nothing where it is gone."""
    found: dict[Thread, int] = {}
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return found
    for process in processes:
        folder = _PROC / str(process.pid)
        with contextlib.suppress(OSError):
            name = (folder / "comm").read_text().strip()
            for task in (folder / "task").iterdir():
                # A thread may end between its being listed and being read.
                with contextlib.suppress(OSError):
                    thread = Thread(part, name, (task / "comm").read_text().strip(), process.pid, int(task.name))
                    found[thread] = int((task / "schedstat").read_text().split()[0])
    return found


class CpuMeter:
    """Reads the threads of the parts that `pids` names at that moment: a part may have been started anew."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids

    def read(self) -> Reading:
        """Now."""
        return {
            thread: spent for part, pid in self._pids().items() for thread, spent in read_threads(part, pid).items()
        }


def spent_between(before: Reading, after: Reading) -> Mapping[Thread, int]:
    """Nanoseconds of each thread between two readings. A thread that began between them has all of its own."""
    return {thread: total - before.get(thread, 0) for thread, total in after.items() if total > before.get(thread, 0)}


def microseconds_by_role(spent: Mapping[Thread, int], requests: int) -> Mapping[str, float]:
    """CPU of one request in microseconds, by role, the dearest first."""
    interpreters = {_interpreter(spent, host) for host in _HOSTS}
    totals: dict[str, int] = defaultdict(int)
    for thread, nanoseconds in spent.items():
        totals[_role(thread, is_interpreter=thread in interpreters)] += nanoseconds
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    return {role: nanoseconds / 1000 / requests for role, nanoseconds in ordered}


def _interpreter(spent: Mapping[Thread, int], host: str) -> Thread | None:
    """The thread of a batcher's Python in an Envoy. What it starts bears its name too, and does little. Nothing in an
    Envoy that only forwards."""
    named = [thread for thread in spent if thread.part == host and thread.name == _INTERPRETER]
    return max(named, key=lambda one: spent[one], default=None)


def _role(thread: Thread, *, is_interpreter: bool) -> str:
    if thread.process == _STUB:
        return "model (Triton's stub)"
    if thread.part in _TRITONS:
        return "Triton"
    if is_interpreter:
        return "batcher, Python"
    if thread.part in _HOSTS:
        return f"{thread.part}, worker" if thread.name.startswith(_WORKER) else f"{thread.part}, other threads"
    return "monitor" if thread.part == "monitor" else "other services"
