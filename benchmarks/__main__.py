"""`make bench`: the mesh through each of its doors and bare Triton, in turns, in the same run.

It starts a mesh and a Triton of its own on free ports. The ratios are what counts: they hold on other machines too.
"""

import argparse
import asyncio
import contextlib
import signal
import sys

import httpx
from rich.console import Console

from benchmarks.load import LoadFailedError
from benchmarks.options import parse
from benchmarks.payloads import WrongAnswerError
from benchmarks.run import bench
from services.common.errors import MeshError
from services.supervisor.process import PartFailedError

_WIDTH = 160
"""Into a file or a pipe, lines are as long as they are."""


async def _run(arguments: argparse.Namespace, console: Console) -> None:
    """The run as a task that SIGTERM ends in order, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await bench(arguments, console)


def main() -> int:
    """The exit code: 0 measured, 1 something failed, 130 interrupted."""
    arguments = parse(sys.argv[1:])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        asyncio.run(_run(arguments, console))
    except (LoadFailedError, PartFailedError, WrongAnswerError, MeshError, httpx.HTTPError) as error:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"infermesh: {error}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Interrupted; everything that was started is stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
