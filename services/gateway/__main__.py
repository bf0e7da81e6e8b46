"""Starts the gateway's keeper: settings, wiring, run."""

import asyncio
import os
import sys

from services.common.clock import SystemClock
from services.common.telemetry.logging import configure_logging
from services.gateway.settings import GatewaySettings, load
from services.gateway.wiring import build


async def main(settings: GatewaySettings) -> int:
    """Runs until SIGTERM or SIGINT. The exit code."""
    return await build(settings, clock=SystemClock()).lifecycle.run()


if __name__ == "__main__":
    loaded = load(os.environ)
    configure_logging(service="gateway", instance=loaded.instance, level=loaded.log_level)
    sys.exit(asyncio.run(main(loaded)))
