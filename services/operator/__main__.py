"""Starts the operator: settings, wiring, run."""

import asyncio
import sys

from services.common.clock import SystemClock
from services.common.settings import load
from services.common.telemetry.logging import configure_logging
from services.operator.settings import OperatorSettings
from services.operator.wiring import build


async def main(settings: OperatorSettings) -> int:
    """Runs until SIGTERM or SIGINT. The exit code."""
    return await build(settings, clock=SystemClock()).lifecycle.run()


if __name__ == "__main__":
    loaded = load(OperatorSettings)
    configure_logging(service="operator", instance=loaded.instance, level=loaded.log_level)
    sys.exit(asyncio.run(main(loaded)))
