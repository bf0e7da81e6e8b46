"""SIGTERM and SIGINT: every batcher of the process drains, then Envoy sees the signal.

The signals stay blocked in every thread (`app_envoy` blocks them before Envoy begins) and one thread waits for them.
"""

import asyncio
import contextlib
import os
import signal
import threading

from services.batcher.faces.drain import Drain

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_LAST_RESORT_S = 5.0


class Ending:
    """Knows whom to drain. A process may carry two batchers for a moment: while Envoy replaces a listener."""

    def __init__(self) -> None:
        self._drains: list[tuple[asyncio.AbstractEventLoop, Drain]] = []
        self._watching = False
        self._lock = threading.Lock()

    def follow(self, drain: Drain) -> None:
        """From now on the batcher of this loop is drained too."""
        with self._lock:
            self._drains.append((asyncio.get_running_loop(), drain))

    def forget(self, drain: Drain) -> None:
        """That batcher has ended by itself."""
        with self._lock:
            self._drains = [(loop, one) for loop, one in self._drains if one is not drain]

    def watch(self) -> None:
        """Starts the thread that waits for the signals, once."""
        with self._lock:
            if self._watching:
                return
            self._watching = True
        threading.Thread(target=self._wait, name="end on signal", daemon=True).start()

    def _wait(self) -> None:
        number = signal.sigwait(SIGNALS)
        with self._lock:
            drains = list(self._drains)
        for loop, drain in drains:
            with contextlib.suppress(RuntimeError):  # the loop is closed: Envoy is ending by itself
                loop.call_soon_threadsafe(drain.begin)
        for loop, drain in drains:
            if not loop.is_closed():
                drain.finished.wait(drain.limit_s + 1.0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.kill(os.getpid(), number)
        threading.Event().wait(_LAST_RESORT_S)
        os._exit(1)
