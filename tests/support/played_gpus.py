"""GPUs that a library plays: a double of NVIDIA's management library at its C interface (`native/nvml.c`)."""

import subprocess
from pathlib import Path

from tests.support.compilers import compilers

SOURCE = Path(__file__).parent / "native" / "nvml.c"
NAME = "libnvidia-ml.so.1"


def nvml_double(folder: Path, *, pids: Path | None = None) -> Path:
    """The library, in `folder`. Who computes on its first GPU is in the file `pids`, a number a line."""
    made = folder / NAME
    told = [f'-DPLAYED_PIDS="{pids}"'] if pids is not None else []
    said = "no compiler"
    for compiler in compilers():
        flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{NAME}", *told]
        command = [*compiler, *flags, "-o", str(made), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        if done.returncode == 0:
            return made
        said = done.stderr
    raise AssertionError(said)
