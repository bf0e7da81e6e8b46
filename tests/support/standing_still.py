"""A process that stands still: it keeps its connections open and says nothing on them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


def stand_still(pid: int) -> None:
    """Stops a child, and returns only once all its threads have: on a busy machine that takes them tens of
    milliseconds, in which they would answer what was just asked."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """A child that stands still within, and goes on after."""
    stand_still(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
