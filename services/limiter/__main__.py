"""Starts the limiter: settings, wiring, run."""

import asyncio
import sys

from services.common.clock import SystemClock
from services.common.settings import load
from services.common.telemetry.logging import configure_logging
from services.limiter.settings import LimiterSettings
from services.limiter.wiring import build


async def main(settings: LimiterSettings) -> int:
    """Runs until SIGTERM or SIGINT. The exit code."""
    return await build(settings, clock=SystemClock()).lifecycle.run()


if __name__ == "__main__":
    loaded = load(LimiterSettings)
    configure_logging(service="limiter", instance=loaded.instance, level=loaded.log_level)
    sys.exit(asyncio.run(main(loaded)))
