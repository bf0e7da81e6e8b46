"""How much of a processor this thread has wanted, as Linux accounts for it."""

import os
import time

_SCHEDSTAT = "/proc/thread-self/schedstat"
"""Three numbers: nanoseconds on a processor, nanoseconds of waiting for one, turns."""


def wanted_cpu_s() -> float:
    """Seconds for which the calling thread ran or waited for a processor. On a machine that is short of them, a thread
    that has too much to do is found by its waiting. Where the kernel does not say, seconds on a processor alone."""
    try:
        descriptor = os.open(_SCHEDSTAT, os.O_RDONLY)
    except OSError:
        return time.thread_time()
    try:
        ran_ns, waited_ns, _ = os.read(descriptor, 100).split()
    finally:
        os.close(descriptor)
    return (int(ran_ns) + int(waited_ns)) / 1e9
