"""`infermesh up`: the whole mesh on this machine, in the foreground."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import grpc
import typer
from infermesh.client.cli.session import Session, command
from infermesh.client.client import Client
from infermesh.client.errors import InfermeshError

_SUPERVISOR = "services.supervisor"
_PORT_VARIABLE = "INFERMESH_PORT_GATEWAY"
_PORT_DEFAULT = "8080"
_DATA_VARIABLE = "INFERMESH_DATA_DIR"
_LOOK_S = 1.0
_READY_TIMEOUT_S = 300.0
"""The first start prepares databases and loads models."""
_STOP_TIMEOUT_S = 15.0


def add_to(app: typer.Typer) -> None:
    """Registers the command."""

    @command(app, "up", epilog="Example: infermesh up --port 9090 --data ~/mesh")
    def up(
        session: Session,
        port: Annotated[
            int | None,
            typer.Option(min=1, max=65535, help=f"The gateway's port. Default: {_PORT_VARIABLE}, else 8080."),
        ] = None,
        data: Annotated[
            Path | None, typer.Option(metavar="DIR", help="Where it keeps its data. Default: .data in the project.")
        ] = None,
    ) -> None:
        """Start the whole mesh on this machine and keep it until Ctrl-C.

        The same as `make run` in the project's folder, without the set-up. With --json one line says when the gateway
        answers, and the mesh's own output goes to standard error.
        """
        if importlib.util.find_spec("services") is None or importlib.util.find_spec(_SUPERVISOR) is None:
            raise InfermeshError(
                "the mesh's services are not installed beside this command",
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="SERVICES_NOT_INSTALLED",
                advice="Clone the project and run `make run` in its folder; this command then works from there.",
            )
        arguments = [sys.executable, "-m", _SUPERVISOR]
        environment = dict(os.environ)
        if port is not None:
            environment[_PORT_VARIABLE] = str(port)
        if data is not None:
            environment[_DATA_VARIABLE] = str(data.expanduser().absolute())
        if not session.output.as_json:
            sys.stdout.flush()
            os.execve(sys.executable, arguments, environment)  # noqa: S606 - the supervisor takes over this terminal
        _run_beside(session, arguments, environment)


def _run_beside(session: Session, arguments: list[str], environment: dict[str, str]) -> None:
    gateway = f"127.0.0.1:{environment.get(_PORT_VARIABLE, _PORT_DEFAULT)}"
    _refuse_second(gateway)
    with subprocess.Popen(arguments, stdout=sys.stderr, env=environment) as process:  # noqa: S603 - our own module
        try:
            _wait_ready(gateway, process)
            if process.poll() is None:
                session.output.line({"gateway": gateway, "ready": True, "pid": process.pid}, "")
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal sent Ctrl-C to the supervisor as well: it is stopping; give it its time.
            code = process.wait(timeout=_STOP_TIMEOUT_S)
        except InfermeshError:
            process.terminate()
            process.wait(timeout=_STOP_TIMEOUT_S)
            raise
    if code != 0:
        raise typer.Exit(code)


def _refuse_second(gateway: str) -> None:
    """Raises where something answers already: it would be taken for the mesh that is about to start."""
    host, _, port = gateway.rpartition(":")
    if not port.isdecimal():
        return  # the supervisor says best what is wrong with its variable
    with socket.socket() as probe:
        probe.settimeout(_LOOK_S)
        if probe.connect_ex((host, int(port))) == 0:
            raise InfermeshError(
                f"something answers at {gateway} already",
                code=grpc.StatusCode.ALREADY_EXISTS,
                reason="PORT_TAKEN",
                advice="Stop it, or choose another port with --port.",
            )


def _wait_ready(gateway: str, process: "subprocess.Popen[bytes]") -> None:
    """Returns once the gateway answers, or the mesh has ended. Raises GATEWAY_UNREACHABLE where it takes too long."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while process.poll() is None:
        try:
            with Client(gateway) as mesh:
                mesh.wait_until_connected(_LOOK_S)
        except InfermeshError:
            if time.monotonic() > deadline:
                raise
        else:
            return
