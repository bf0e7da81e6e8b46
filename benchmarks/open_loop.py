"""Open-loop load: requests leave when the script says, however many are unanswered, each timed from then.

h2load has no open loop that is finer than a millisecond, and its times begin when it gets to sending; a request that
waited behind others would look quick. So this is a generator of our own, in a process of its own: one thread over a few
connections.

    python -m benchmarks.open_loop SPEC.json TIMES.npy OUTCOME.npy
"""

import asyncio
import contextlib
import gc
import json
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.arrivals import Times
from benchmarks.http2 import Connection, PeerError
from benchmarks.load import LoadFailedError
from benchmarks.payloads import Call

CONNECTIONS = 8
LEAD_IN_S = 0.3
_TICK_S = 0.0005
"""The generator wakes no oftener: what is due leaves together, what came is read together. Waking for each request took
it most of a core, which the servers then lacked; so every time is up to two ticks longer, for all targets alike.
"""
_PATIENCE_S = 5.0
"""How long answers may take after the last request has left."""
_START_S = 0.05
_READ_BYTES = 256 * 1024
_GRACE_S = 20.0
_CARRIED_PER_S_MAX = 60_000
"""More than this generator can send."""
FIRST_IN_LINE = "callers run before all else on this machine: in life they are on others"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a script."""

    seconds: float
    """Length of the script."""
    latency_s: NDArray[np.float64]
    """By request, from the moment at which it should have left until its answer was read; NaN where none came."""
    lag_s: NDArray[np.float64]
    """By request: how much later than it should it left the generator; part of the latency."""

    errors_before: int = 0
    """Requests of the lead-in that failed."""

    @property
    def errors(self) -> int:
        """Requests without an answer, or with one that has no message; of the lead-in too."""
        return int(np.isnan(self.latency_s).sum()) + self.errors_before

    @property
    def waited_s(self) -> NDArray[np.float64]:
        """The latencies; what was not answered counts as never."""
        return np.where(np.isnan(self.latency_s), np.inf, self.latency_s)

    def percentile_ms(self, which: float) -> float:
        """Of the latencies, in milliseconds; what was not answered counts as never."""
        return float(np.percentile(self.waited_s, which, method="higher") * 1000)

    def lag_ms(self, which: float) -> float:
        """Percentile of the generator's own lateness, in milliseconds."""
        return float(np.percentile(self.lag_s, which) * 1000)

    def goodput(self, within_s: float) -> float:
        """Requests a second that were answered within the bound."""
        return float((self.latency_s <= within_s).sum() / self.seconds)


def first_in_line() -> bool:
    """Has what this process starts from now on, and itself, run before all else. False: it may not."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


async def run_script(*, address: str, call: Call, times: Times, seconds: float, folder: Path) -> Outcome:
    """Sends `call` at each of `times`, of which those before LEAD_IN_S are not timed: connections are new, and whatever
    rested wakes up. `seconds` is the length of the rest. Raises LoadFailedError where the generator cannot do its work.
    """
    latency_s, lag_s = await _generate(address, call, times, folder, seconds=seconds, in_flight=0)
    timed = times >= LEAD_IN_S
    return Outcome(seconds, latency_s[timed], lag_s[timed], int(np.isnan(latency_s[~timed]).sum()))


async def carried_per_s(*, address: str, call: Call, callers: int, seconds: float, folder: Path) -> float:
    """What a closed loop of `callers` gets answered in a second. h2load asks the same and takes less of the cores for
    itself; a share of its figure would be a larger share of what is there beside this generator.
    """
    times = np.zeros(round(_CARRIED_PER_S_MAX * seconds))
    latency_s, _ = await _generate(address, call, times, folder, seconds=seconds, in_flight=callers)
    return float((latency_s <= seconds).sum() / seconds)


async def _generate(
    address: str, call: Call, times: Times, folder: Path, *, seconds: float, in_flight: int
) -> NDArray[np.float64]:
    """Latencies and lags, one row each."""
    spec, script, outcome = folder / "open.json", folder / "times.npy", folder / "outcome.npy"
    headers = [(":method", "POST"), (":scheme", "http"), (":path", call.path), (":authority", address), *call.headers]
    told = {"address": address, "headers": headers, "body": call.body.hex()}
    spec.write_text(json.dumps({**told, "in_flight": in_flight, "seconds": seconds}))
    np.save(script, times)
    outcome.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.open_loop", str(spec), str(script), str(outcome)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LEAD_IN_S + seconds + _PATIENCE_S + _GRACE_S):
            _, words = await process.communicate()
    except TimeoutError:
        raise LoadFailedError("the open-loop generator did not end; is the machine overloaded?") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        last = words.decode(errors="replace").strip().splitlines()
        raise LoadFailedError(f"the open-loop generator failed at {address}: {last[-1] if last else 'no words'}")
    measured: NDArray[np.float64] = np.load(outcome)
    return measured


class Generator:
    """The process's one thread."""

    def __init__(self, host: str, port: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self._sockets = [socket.create_connection((host, port), timeout=_PATIENCE_S) for _ in range(CONNECTIONS)]
        self._connections = {one: Connection(headers, body) for one in self._sockets}
        for one in self._sockets:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._flush(one)

    def run(self, times: Times, *, in_flight: int, seconds: float) -> NDArray[np.float64]:
        """Latencies and lags in seconds, one row each. With a bound of what is `in_flight` at once it is a closed loop,
        which ends after `seconds`; 0: there is none. Raises PeerError.
        """
        due, count = times.tolist(), len(times)
        most, end_s = (in_flight, seconds) if in_flight else (count, (due[-1] if due else 0.0) + _PATIENCE_S)
        latency_s, lag_s = [float("nan")] * count, [0.0] * count
        connections = [self._connections[one] for one in self._sockets]
        start_s = time.perf_counter() + _START_S
        sent, over, woken_s = 0, 0, 0.0
        while over < count:
            now_s = time.perf_counter() - start_s
            if now_s > end_s:
                break
            while sent < count and due[sent] <= now_s and sent - over < most:
                connections[sent % CONNECTIONS].send(sent)
                lag_s[sent] = now_s - due[sent]
                sent += 1
            for one, connection in self._connections.items():
                if connection.outgoing:
                    self._flush(one)
            idle = sent == count or sent - over >= most
            time.sleep(max(0.0, woken_s + _TICK_S - (time.perf_counter() - start_s)))
            wait_s = 0.1 if idle else due[sent] - (time.perf_counter() - start_s)
            blocked = [one for one in self._sockets if self._connections[one].outgoing]
            readable, _, _ = select.select(self._sockets, blocked, (), max(0.0, wait_s))
            woken_s = time.perf_counter() - start_s
            for one in readable:
                over += self._read(one, start_s, due, latency_s)
        return np.array([latency_s, lag_s])

    def close(self) -> None:
        """Hangs up."""
        for one in self._sockets:
            one.close()

    def _read(self, one: socket.socket, start_s: float, due: list[float], latency_s: list[float]) -> int:
        data = one.recv(_READ_BYTES)
        if not data:
            raise PeerError("the server closed a connection")
        now_s = time.perf_counter() - start_s
        finished = self._connections[one].receive(data)
        for request, answered in finished:
            if answered:
                latency_s[request] = now_s - due[request]
        return len(finished)

    def _flush(self, one: socket.socket) -> None:
        outgoing = self._connections[one].outgoing
        with contextlib.suppress(BlockingIOError):
            del outgoing[: one.send(outgoing)]


def main(spec: str, script: str, outcome: str) -> int:
    """The process. Returns 1, with a sentence on standard error, where the server gives up."""
    told = json.loads(Path(spec).read_text())
    host, _, port = told["address"].rpartition(":")
    times = np.load(script)
    gc.disable()
    try:
        generator = Generator(host, int(port), told["headers"], bytes.fromhex(told["body"]))
        try:
            np.save(outcome, generator.run(times, in_flight=told["in_flight"], seconds=told["seconds"]))
        finally:
            generator.close()
    except (OSError, PeerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
