"""How a worker gives way to others on its processors.

Where Linux schedules sessions as groups (autogroup, usual on desktops and on machines without a container runtime), the
niceness of a process holds only within its session. So a worker has a session of its own, and that is made nice too.
"""

import contextlib
import os
from pathlib import Path

from services.common.clock import Clock

_TRIES = 50
_PAUSE_S = 0.1
"""Linux lets those without privileges change one session, of whomever, in a tenth of a second, and tells nobody when it
is his turn."""


async def give_way(niceness: int, *, clock: Clock) -> None:
    """From now on, for this process and what it starts. `niceness` is 0 (not at all) to 19. To be called before it has
    threads: those that there are by then stay as they are."""
    if not niceness:
        return
    os.nice(niceness)
    # The session is this process's alone where it leads it, as one does that a batch service has started.
    if os.getsid(0) == os.getpid():
        await _set_session("self", niceness, clock)


async def give_way_no_more(pid: int, *, clock: Clock) -> None:
    """Takes it back for a worker that leads its session, as far as the system allows it: beside busy processors a nice
    process takes long to end, even when it is killed.

    A session may be changed by its own user. The niceness of a process may be lowered by the privileged alone, but
    counts only where sessions are no groups.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, pid, 0)
    await _set_session(str(pid), 0, clock)


async def _set_session(process: str, niceness: int, clock: Clock) -> None:
    for _ in range(_TRIES):
        try:
            _write(process, niceness)
        except BlockingIOError:
            await clock.sleep(_PAUSE_S)
        except OSError:
            # Sessions are no groups here, or the process has ended.
            return
        else:
            return


def _write(process: str, niceness: int) -> None:
    Path(f"/proc/{process}/autogroup").write_text(f"{niceness}\n")
