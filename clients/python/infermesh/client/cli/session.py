"""What all commands share: the options --json, --gateway and --timeout, one client, one way to fail.

A command is a function of a `Session` and its own parameters, registered with `command`. It raises InfermeshError and
never prints an error itself.
"""

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import Annotated, Concatenate, ParamSpec

import typer
from infermesh.client.cli.completion import GATEWAY_VARIABLE, complete_deployment, complete_model, complete_version
from infermesh.client.cli.failures import ExitCode, exit_code
from infermesh.client.cli.output import Output
from infermesh.client.client import GATEWAY_DEFAULT, Client
from infermesh.client.errors import InfermeshError

TIMEOUT_DEFAULT_S = 30.0

P = ParamSpec("P")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of tables.")]
GatewayOption = Annotated[
    str | None,
    typer.Option(
        "--gateway", metavar="HOST:PORT", help=f"The gateway. Default: {GATEWAY_VARIABLE}, else {GATEWAY_DEFAULT}."
    ),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="The longest any one call may take.")
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name.", show_default=False, autocompletion=complete_model)
]
VersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="VERSION",
        help="The version, for instance v1.0.0.",
        show_default=False,
        autocompletion=complete_version,
    ),
]
DeploymentArgument = Annotated[
    str,
    typer.Argument(
        metavar="DEPLOYMENT",
        help="The deployment's name, or its version.",
        show_default=False,
        autocompletion=complete_deployment,
    ),
]
VersionOption = Annotated[
    str,
    typer.Option("--version", "-v", metavar="VERSION", help="One version alone.", autocompletion=complete_version),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
EtagOption = Annotated[
    str, typer.Option("--etag", metavar="ETAG", help="Fail where somebody changed it since this was read.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]


class Session:
    """One run of one command."""

    def __init__(self, *, gateway: str, timeout_s: float, output: Output) -> None:
        self.gateway = gateway
        self.timeout_s = timeout_s
        self.output = output
        self._stack = ExitStack()

    @cached_property
    def client(self) -> Client:
        """The client, made at first use and closed with the session."""
        try:
            return self._stack.enter_context(Client(self.gateway, timeout_s=self.timeout_s))
        except ValueError as fault:
            raise typer.BadParameter(str(fault), param_hint="--gateway") from None

    def close(self) -> None:
        """Closes what was opened."""
        self._stack.close()


def gateway_address(explicit: str | None, context: typer.Context) -> str:
    """The gateway to use: the command's option, else the one before the command, else the environment, else local."""
    return explicit or (context.obj or {}).get("gateway") or os.environ.get(GATEWAY_VARIABLE) or GATEWAY_DEFAULT


def command(
    app: typer.Typer, name: str, *, epilog: str | None = None
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Registers a function as command `name`, with the shared options after its own; its docstring is the help."""

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        def invoke(context: typer.Context, **values: object) -> None:
            as_json, gateway, timeout_s = values.pop("as_json"), values.pop("gateway"), values.pop("timeout_s")
            assert isinstance(gateway, str | None)
            assert isinstance(timeout_s, float)
            session = Session(
                gateway=gateway_address(gateway, context), timeout_s=timeout_s, output=Output(as_json=bool(as_json))
            )
            raise typer.Exit(_run(session, lambda: function(session, **values)))  # type: ignore[call-arg, arg-type]

        invoke.__doc__ = function.__doc__
        # Typer reads a function's signature: show it the function's own parameters and the shared ones.
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = [
            _keyword("as_json", JsonOption, default=False),
            _keyword("gateway", GatewayOption, default=None),
            _keyword("timeout_s", TimeoutOption, default=TIMEOUT_DEFAULT_S),
        ]
        context_parameter = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context_parameter, *(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own), *shared]
        invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        invoke.__annotations__ = {item.name: item.annotation for item in parameters}
        app.command(name, epilog=epilog)(invoke)
        return function

    return register


def _keyword(name: str, annotation: object, *, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _run(session: Session, body: Callable[[], None]) -> int:
    try:
        body()
    except InfermeshError as error:
        session.output.failure(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`infermesh models | head`). That is no failure, and no more may be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    finally:
        session.close()
    return ExitCode.OK
