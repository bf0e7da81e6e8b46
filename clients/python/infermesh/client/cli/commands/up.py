"""`infermesh up`: the whole mesh on this machine, in the foreground."""

import importlib.util
import os
import subprocess
import sys

import grpc
import typer
from infermesh.client.cli.session import Session, command
from infermesh.client.errors import InfermeshError

_SUPERVISOR = "services.supervisor"
_READY_TIMEOUT_S = 300.0
"""The first start prepares databases and loads models."""
_STOP_TIMEOUT_S = 15.0


def add_to(app: typer.Typer) -> None:
    """Registers the command."""

    @command(app, "up")
    def up(session: Session) -> None:
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
        if not session.output.as_json:
            sys.stdout.flush()
            os.execv(sys.executable, arguments)  # noqa: S606 - the supervisor takes over this terminal
        _run_beside(session, arguments)


def _run_beside(session: Session, arguments: list[str]) -> None:
    with subprocess.Popen(arguments, stdout=sys.stderr) as process:  # noqa: S603 - our own module
        try:
            session.client.wait_until_connected(_READY_TIMEOUT_S)
            session.output.line({"gateway": session.gateway, "ready": True, "pid": process.pid}, "")
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
