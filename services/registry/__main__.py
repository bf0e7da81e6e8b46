"""Starts the registry: settings, wiring, run."""

import asyncio
import sys

from services.common.clock import SystemClock
from services.common.settings import load
from services.common.telemetry.logging import configure_logging
from services.registry.settings import RegistrySettings
from services.registry.wiring import build


async def main(settings: RegistrySettings) -> int:
    """Runs until SIGTERM or SIGINT. The exit code."""
    return await build(settings, clock=SystemClock()).lifecycle.run()


if __name__ == "__main__":
    loaded = load(RegistrySettings)
    configure_logging(service="registry", instance=loaded.instance, level=loaded.log_level)
    sys.exit(asyncio.run(main(loaded)))
