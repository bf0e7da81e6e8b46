"""What fills a pod's model repository, run as the pod runs it."""

import asyncio
import os
import sys
from pathlib import Path

from tests.support.registry_driving import OLD


async def fetch(folder: Path, address: str, **change: str) -> tuple[int, list[str]]:
    """Runs the command; its exit code and the lines that it wrote."""
    wanted = {"MODEL": "digits", "VERSION": OLD, "FOLDER": str(folder), "ADDRESS": address} | change
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.deployer.fetch",
        env=os.environ | {f"INFERMESH_FETCH_{name}": value for name, value in wanted.items()},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode is not None
    return process.returncode, said.decode().splitlines()
