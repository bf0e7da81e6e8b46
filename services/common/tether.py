"""Becomes another program, tied to the process that started it: `tether.py PARENT SIGNAL USER PROGRAM [ARGUMENT …]`.

The tie is Linux's PR_SET_PDEATHSIG, which only the new process itself can make. Code of ours between fork and exec
(`preexec_fn` of subprocess) could make it, but may wait for ever for a lock that another thread of the old process held
at the fork. So this file is run as a script by an interpreter that loads nothing else, and gives way to the program.

No moment is left in which the parent may die unnoticed: once tied, whoever has another parent than the one that it was
told is too late and leaves; from then on the signal comes, and kills whatever does not handle it.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_SIGINT, _SIGPIPE, _SIGXFSZ = 2, 13, 25  # to import `signal` takes longer than all that is done here
_SIG_DFL = 0
_NOT_STARTED = 127
"""What a shell exits with where there is no such program."""


def tethered(program: tuple[str, ...], *, signal_number: int, uid: int | None = None) -> list[str]:
    """The command that becomes `program`, as the user `uid` where one is given. When this process dies, however it
    does, the program gets the signal."""
    user = "" if uid is None else str(uid)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(signal_number), user, *program]


def main(parent: int, signal_number: int, user: str, program: list[str]) -> None:
    """Does not return."""
    environment = _environment()
    libc = ctypes.CDLL(None)
    # What the interpreter has set for itself: the program would inherit it, or it would swallow the signal until then.
    for number in (_SIGINT, _SIGPIPE, _SIGXFSZ):
        libc.signal(number, _SIG_DFL)
    if user:
        # Before the tie: whoever changes his user is tied no more.
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(_NOT_STARTED)
    try:
        os.execve(program[0], program, environment)  # noqa: S606 - a shell is what it must not be
    except OSError as error:
        sys.stderr.write(f"{program[0]} cannot be run: {error.strerror}\n")
        sys.exit(_NOT_STARTED)


def _environment() -> dict[bytes, bytes]:
    """What this process was given; to its own, the interpreter may have added a locale."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib takes longer than all that is done here
        pairs = [pair.partition(b"=") for pair in file.read().split(b"\0") if pair]
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
