"""Closed-loop load by h2load: each caller sends its next request when the answer to the one before has come."""

import asyncio
import contextlib
import re
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.cpu import CpuMeter, microseconds_by_role, spent_between
from benchmarks.payloads import Call
from services.supervisor.settings import ROOT

_STREAMS_MAX = 32
"""Callers that share one HTTP/2 connection, as gRPC clients do."""
_WARM_UP_REQUESTS = 20
"""By each caller, before it counts."""
_GRACE_S = 20.0
LOAD_ROLE = "h2load"
"""What the load generator is called among those that spend CPU."""
_REQUESTS = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored")
_DATA = re.compile(r"\((\d+)\) data$", re.MULTILINE)


class LoadFailedError(Exception):
    """h2load did not do what it was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What h2load says at its end."""

    done: int
    failed: int
    """Requests without an answer, or whose HTTP status is not 2xx."""
    data_bytes: int
    """Of all answers' bodies."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one target did under one load."""

    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    done: int
    errors: int
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    """CPU of one request in microseconds, by what spent it; empty where it was not measured."""


def h2load_path() -> Path:
    """The load generator, fetched where the system has none. Raises LoadFailedError with what to do."""
    found = subprocess.run(
        ["sh", str(ROOT / "tools" / "debian.sh"), "h2load", "nghttp2-client"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if found.returncode:
        raise LoadFailedError(found.stderr.strip())
    return Path(found.stdout.strip())


def parse_summary(output: str) -> Summary:
    """Reads what h2load prints. Raises LoadFailedError where it measured nothing."""
    requests, data = _REQUESTS.search(output), _DATA.search(output)
    if requests is None or data is None or not int(requests[1]):
        words = [line for line in output.splitlines() if line.strip()]
        raise LoadFailedError(f"h2load measured nothing; its last words: {words[-1] if words else 'none'}")
    done, succeeded = int(requests[1]), int(requests[2])
    lost = int(requests[3]) + int(requests[4])
    return Summary(done, max(done - succeeded, lost), int(data[1]))


def silent_failures(summary: Summary, answer_bytes: int) -> int:
    """Answers with HTTP status 200 and no message: gRPC errors travel in trailers, so their bodies are empty."""
    return max(0, summary.done - round(summary.data_bytes / answer_bytes))


def percentiles_ms(log: Path) -> tuple[float, float, float]:
    """p50, p95 and p99 of the times in an h2load log: start, status and microseconds of each request, by tabs."""
    microseconds = np.loadtxt(log, dtype=np.int64, usecols=2, ndmin=1)
    p50, p95, p99 = np.percentile(microseconds, (50, 95, 99)) / 1000
    return float(p50), float(p95), float(p99)


async def run_load(
    h2load: Path,
    *,
    address: str,
    call: Call,
    callers: int,
    seconds: float,
    answer_bytes: int,
    folder: Path,
    meter: CpuMeter | None = None,
) -> Measured:
    """`callers` callers for `seconds`, after a short warm-up. `answer_bytes`: the size of a good answer's body. With a
    meter, also what the CPU was spent on.
    """
    body, log = folder / "body", folder / "log.tsv"
    body.write_bytes(call.body)
    log.unlink(missing_ok=True)
    connections = -(-callers // _STREAMS_MAX) if call.grpc else callers
    shape = ["-c", str(connections), "-m", str(-(-callers // connections)), "-d", str(body)]
    if not call.grpc:
        shape.append("--h1")
    for name, value in call.headers:
        shape += ["-H", f"{name}: {value}"]
    url = f"http://{address}{call.path}"
    await _run(h2load, *shape, "-n", str(callers * _WARM_UP_REQUESTS), url, timeout_s=_GRACE_S)
    before, own_before_us = meter.read() if meter else {}, _generator_us()
    output = await _run(
        h2load, *shape, "-D", f"{round(seconds * 1000)}ms", f"--log-file={log}", url, timeout_s=seconds + _GRACE_S
    )
    after, own_us = meter.read() if meter else {}, _generator_us() - own_before_us
    summary = parse_summary(output)
    silent = silent_failures(summary, answer_bytes) if call.grpc else 0
    p50_ms, p95_ms, p99_ms = await asyncio.to_thread(percentiles_ms, log)
    spent = microseconds_by_role(spent_between(before, after), summary.done)
    return Measured(
        requests_per_s=summary.done / seconds,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
        done=summary.done,
        errors=max(summary.failed, silent),
        cpu_us={**spent, LOAD_ROLE: own_us / summary.done} if meter else {},
    )


def _generator_us() -> float:
    """CPU of all children that have ended: within a measurement that is the load generator alone."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e6


async def _run(h2load: Path, *arguments: str, timeout_s: float) -> str:
    process = await asyncio.create_subprocess_exec(
        str(h2load), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        raise LoadFailedError(f"h2load did not end within {timeout_s:.0f} s; does {arguments[-1]} answer?") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return output.decode(errors="replace")
