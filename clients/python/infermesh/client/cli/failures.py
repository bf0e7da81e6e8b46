"""How a failed command ends: one short paragraph that says what to do, and an exit code that scripts may rely on."""

from enum import IntEnum

import grpc
from infermesh.client.errors import InfermeshError
from rich.markup import escape


class ExitCode(IntEnum):
    """The exit codes of every command. They are part of the contract with scripts."""

    OK = 0
    FAILURE = 1
    """Anything not named below."""
    USAGE = 2
    """The command line or a value in the request is wrong."""
    NOT_FOUND = 3
    """The model, version, deployment or job does not exist."""
    UNAVAILABLE = 4
    """The gateway, or something behind it, does not answer now."""
    CONFLICT = 5
    """The state does not allow it: exists already, changed meanwhile, not deployed."""
    TIMEOUT = 6
    """No answer within the time allowed."""
    DENIED = 7
    """No valid key, or not the role for this."""
    LIMITED = 8
    """A quota, rate limit or full queue."""
    NOT_IMPLEMENTED = 9
    """The contract knows it, this installation does not yet."""
    INTERRUPTED = 130
    """Ctrl-C."""


_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    grpc.StatusCode.OUT_OF_RANGE: ExitCode.USAGE,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.CONFLICT,
    grpc.StatusCode.ABORTED: ExitCode.CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.CONFLICT,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.TIMEOUT,
    grpc.StatusCode.UNAUTHENTICATED: ExitCode.DENIED,
    grpc.StatusCode.PERMISSION_DENIED: ExitCode.DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.LIMITED,
    grpc.StatusCode.UNIMPLEMENTED: ExitCode.NOT_IMPLEMENTED,
    grpc.StatusCode.CANCELLED: ExitCode.INTERRUPTED,
}


def exit_code(error: InfermeshError) -> ExitCode:
    """The exit code that fits an error."""
    return _BY_CODE.get(error.code, ExitCode.FAILURE)


def paragraph(error: InfermeshError) -> str:
    """An error for people, as rich markup: what is wrong, which fields, what to do next."""
    lines = [f"[bold red]error:[/] {_sentence(escape(error.message))}"]
    lines += [
        f"  [bold]{escape(item.field)}[/]: {escape(item.description)}"
        for item in error.violations
        if item.description not in error.message
    ]
    if error.advice and error.advice not in error.message:
        lines.append(f"[dim]{escape(error.advice)}[/]")
    return "\n".join(lines)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
