"""Fills a replica's model repository with one version, checks it, and ends: the init container of a pod.

Its last line says why, where it fails; a cluster shows that as the reason that the pod does not start.
"""

import asyncio
import sys

from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.common.settings import load
from services.common.telemetry.logging import configure_logging, get_logger
from services.deployer.settings import FetchSettings
from services.deployer.wiring_fetch import fetch

log = get_logger(__name__)


async def main(settings: FetchSettings) -> int:
    """The exit code."""
    try:
        package = await fetch(settings, clock=SystemClock())
    except MeshError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    log.info("the repository holds the version", model=package.server_model_name, digest=package.artifact_digest)
    return 0


if __name__ == "__main__":
    loaded = load(FetchSettings)
    configure_logging(service="fetch", instance=loaded.version, level=loaded.log_level)
    sys.exit(asyncio.run(main(loaded)))
