"""Starts a worker: settings, wiring, run."""

import asyncio
import sys

from services.batch.domain.indexed_job import UNUSABLE
from services.batch.worker.niceness import give_way
from services.batch.worker.settings import WorkerSettings
from services.batch.worker.wiring import WorkerProcess, build
from services.common.clock import SystemClock
from services.common.settings import load
from services.common.telemetry.logging import configure_logging


async def main(settings: WorkerSettings) -> int:
    """Runs until SIGTERM or SIGINT, or until its one job is done. The exit code."""
    await give_way(settings.niceness, clock=SystemClock())
    return await usable(settings).run()


def usable(settings: WorkerSettings) -> WorkerProcess:
    """The worker; ends the process with UNUSABLE where it can never work as it was told to."""
    try:
        return build(settings, clock=SystemClock())
    except SystemExit as refused:
        sys.stderr.write(f"{refused.code}\n")
        raise SystemExit(UNUSABLE) from None


if __name__ == "__main__":
    try:
        loaded = load(WorkerSettings)
    except SystemExit:
        sys.exit(UNUSABLE)
    configure_logging(service="batch-worker", instance=loaded.instance, level=loaded.log_level)
    sys.exit(asyncio.run(main(loaded)))
