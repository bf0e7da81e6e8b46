"""What this host and the models on it use, out of /proc."""

import re
from collections import defaultdict
from collections.abc import Sequence

import psutil

from services.monitor.domain.figures import Usage
from services.monitor.ports import ModelUse

_STUB = "triton_python_backend_stub"
# One such process runs each model instance; its arguments name the model: …/<model>--<version>/1/model.py
_MODEL_FILE = re.compile(r".*/(?P<model>[^/]+)--(?P<version>v[^/]+)/\d+/[^/]+\.py")


class ProcHostProbe:
    """A `HostProbe` of CPU and memory."""

    def sample(self) -> Usage:
        """CPU since the sample before, of all cores; memory that applications cannot get."""
        return Usage(cpu_percent=psutil.cpu_percent(interval=None), memory_percent=psutil.virtual_memory().percent)


class ProcModelProbe:
    """A `ModelProbe` for the processes in which Triton's python backend runs models."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def sample(self) -> Sequence[ModelUse]:
        """CPU since the sample before (0 in a process's first), and resident memory. Processes that may not be looked
        at, or end meanwhile, are left out.
        """
        found: dict[tuple[str, str], tuple[float, int, frozenset[int]]] = defaultdict(lambda: (0.0, 0, frozenset()))
        seen: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            try:
                version = served_version(process.cmdline())
                if version is None:
                    continue
                # The same object each time: it remembers the CPU time of the sample before.
                known = self._known.get(process.pid)
                process = known if known is not None and known == process else process  # noqa: PLW2901
                seen[process.pid] = process
                cores, memory_bytes = process.cpu_percent(interval=None) / 100, process.memory_info().rss
            except psutil.Error:
                continue
            before = found[version]
            found[version] = (before[0] + cores, before[1] + memory_bytes, before[2] | {process.pid})
        self._known = seen
        return [
            ModelUse(model, version, cores, memory_bytes, pids)
            for (model, version), (cores, memory_bytes, pids) in sorted(found.items())
        ]


def served_version(argv: Sequence[str]) -> tuple[str, str] | None:
    """The model and version that a process with this command line runs; None where it runs none."""
    if not argv or not argv[0].endswith(_STUB):
        return None
    for argument in argv[1:]:
        if match := _MODEL_FILE.fullmatch(argument):
            return match["model"], match["version"]
    return None
