"""What `python -m services.supervisor` understands: run the mesh, forget its data, make another key."""

import argparse
import asyncio
import sys

from services.common.settings import load
from services.supervisor.local import make_key, run_local
from services.supervisor.ports import MeshPorts
from services.supervisor.process import PartFailedError
from services.supervisor.settings import SupervisorSettings
from services.supervisor.state import forget


def main(description: str | None) -> int:
    """Returns the exit code: 0 after Ctrl-C, 1 with one sentence on stderr when something cannot run."""
    parser = argparse.ArgumentParser(prog="python -m services.supervisor", description=description)
    parser.add_argument("action", nargs="?", choices=("run", "clean-data", "key"), default="run")
    parser.add_argument("--free-ports", action="store_true", help="take ports that are free now, for a second mesh")
    arguments = parser.parse_args()
    settings = load(SupervisorSettings)
    # Parts have working folders of their own: a relative path would be another one for each.
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    try:
        if arguments.action == "clean-data":
            forget(settings.data_dir)
            sys.stdout.write(f"{settings.data_dir} is removed\n")
            return 0
        if arguments.action == "key":
            key = asyncio.run(make_key(settings, "made on the machine"))
            sys.stdout.write(f"export INFERMESH_API_KEY={key}\n")
            return 0
        ports = MeshPorts.free() if arguments.free_ports else load(MeshPorts)
        return asyncio.run(run_local(settings, ports))
    except PartFailedError as error:
        sys.stderr.write(f"infermesh: {error}\n")
        return 1
