"""How a worker gives way to others on its processors.

Where Linux schedules sessions as groups (autogroup, usual on desktops and on machines without a container runtime), the
niceness of a process holds only within its session. So a worker has a session of its own, and that is made nice too.
"""

import contextlib
import os
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(niceness: int) -> None:
    """From now on, for this process and what it starts. `niceness` is 0 (not at all) to 19."""
    if not niceness:
        return
    os.nice(niceness)
    with contextlib.suppress(OSError):
        # It is this process's alone where it leads its session, as one does that a batch service has started.
        if os.getsid(0) == os.getpid():
            _AUTOGROUP.write_text(f"{niceness}\n")
