"""One run of the benchmark: its parts one after the other, then what they came to."""

import argparse
import asyncio
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.load import h2load_path
from benchmarks.options import effort_of
from benchmarks.parts import PARTS
from benchmarks.payloads import WrongAnswerError
from benchmarks.report import PartReport, as_json, show, this_machine
from benchmarks.stage import Stage
from services.common.clock import SystemClock
from services.supervisor.process import PartFailedError


async def bench(arguments: argparse.Namespace, console: Console) -> None:
    """Raises LoadFailedError, MeshError, PartFailedError or WrongAnswerError, each with a sentence. Parts that were
    finished before are shown all the same.
    """
    clock, machine, began = SystemClock(), this_machine(), SystemClock().now()
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}; load before: {machine.load_before:.1f}")
    h2load = await asyncio.to_thread(h2load_path)
    reports: list[PartReport] = []
    try:
        async with AsyncExitStack() as stack:
            stage = Stage(
                stack=stack,
                folder=await stack.enter_async_context(_folder()),
                h2load=h2load,
                effort=effort_of(arguments),
                clock=clock,
                say=console.print,
            )
            for name in arguments.part:
                console.print(f"[bold]{name}[/]")
                reports.append(await _judged(stage, name))
            console.print("Stopping")
    finally:
        for report in reports:
            show(console, report)
        if arguments.json is not None:
            document = as_json(
                command=f"python -m benchmarks {shlex.join(sys.argv[1:])}".strip(),
                moment=began.isoformat(timespec="seconds"),
                machine=machine,
                reports=reports,
            )
            arguments.json.write_bytes(document)


async def _judged(stage: Stage, name: str) -> PartReport:
    """A part, and the proof that no request of it failed in the batcher."""
    before = await stage.failed_requests()
    try:
        report = await PARTS[name](stage)
    except WrongAnswerError as error:
        raise WrongAnswerError(f"{error}; {told_of(before, await stage.failed_requests())}") from error
    after = await stage.failed_requests()
    if after != before:
        raise WrongAnswerError(f"in part {name} {told_of(before, after)}")
    return replace(report, notes=[*report.notes, *stage.notes()])


def told_of(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """What the batcher counts as failed between two looks."""
    failed = {reason: count - before.get(reason, 0.0) for reason, count in after.items()}
    told = ", ".join(f"{count:.0f} of {reason}" for reason, count in failed.items() if count)
    return f"the batcher counts failed requests: {told or 'none'}"


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """A folder for all that the run leaves. It goes at the end, unless a part failed: then its log is worth reading."""
    name = await asyncio.to_thread(tempfile.mkdtemp, prefix="infermesh-bench-")
    # Where this runs as root PostgreSQL runs as another user, who must reach its data.
    await asyncio.to_thread(os.chmod, name, 0o755)
    try:
        yield Path(name)
    except PartFailedError:
        raise
    except BaseException:
        shutil.rmtree(name, ignore_errors=True)
        raise
    else:
        shutil.rmtree(name, ignore_errors=True)
