"""Starts the batch service: settings, wiring, run."""

import asyncio
import sys

from services.batch.settings import BatchSettings
from services.batch.wiring import build
from services.common.clock import SystemClock
from services.common.settings import load
from services.common.telemetry.logging import configure_logging


async def main(settings: BatchSettings) -> int:
    """Runs until SIGTERM or SIGINT. The exit code."""
    return await build(settings, clock=SystemClock()).lifecycle.run()


if __name__ == "__main__":
    loaded = load(BatchSettings)
    configure_logging(service="batch", instance=loaded.instance, level=loaded.log_level)
    sys.exit(asyncio.run(main(loaded)))
