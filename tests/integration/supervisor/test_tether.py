"""Programs that die with whoever started them, however it dies, and are otherwise as if nothing were between."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.common.tether import tethered
from services.supervisor.parts.part import Part
from services.supervisor.parts.postgres import NOBODY
from services.supervisor.process import PartFailedError, Process
from services.supervisor.settings import ROOT
from tests.integration.supervisor.test_starting import calls_under_way
from tests.support.waiting import until

TIMEOUT_S = 30.0
_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its user")
USERS = [None, pytest.param(NOBODY, marks=_root)]
_PARENT = """
import asyncio, sys
from pathlib import Path
from services.common.clock import SystemClock
from services.supervisor.parts.part import Part
from services.supervisor.process import Process

async def ready():
    return True

async def main(folder, count, seconds, signal_number, user):
    part = Part(name="sleeper", argv=("/bin/sleep", seconds), cwd=Path("/"), ready=ready,
                stop_signal=int(signal_number), uid=int(user) if user else None,
                log_path=Path(folder) / "sleeper.log")
    for _ in range(int(count)):
        await Process.start(part, clock=SystemClock())
    print("started", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


async def _at_once() -> bool:
    return True


def part_of(folder: Path, *argv: str, uid: int | None = None) -> Part:
    return Part(name="part", argv=argv, cwd=Path("/"), ready=_at_once, uid=uid, log_path=folder / "part.log")


async def said_by(part: Part) -> tuple[int, str]:
    process = await Process.start(part, clock=SystemClock())
    async with asyncio.timeout(TIMEOUT_S):
        return await process.wait(), part.log_path.read_text()


def running(*marks: str) -> list[str]:
    """The command lines of all processes that have these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has just ended
        if all(mark in words for mark in marks):
            found.append(" ".join(words))
    return found


def seconds_of(test: int) -> str:
    """How long a test's programs sleep: what tells them from all others."""
    return f"{test}.{os.getpid()}"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_die_with_a_parent_that_is_killed(tmp_path: Path, number: signal.Signals, user: int | None) -> None:
    seconds = seconds_of(9000 + number)
    command = [sys.executable, "-c", _PARENT, str(tmp_path), "3", seconds, str(int(number)), str(user or "")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        until(lambda: len(running("/bin/sleep", seconds)) == 3, what="the programs run")
        parent.kill()
    until(lambda: not running(seconds), what="the programs are gone")


@pytest.mark.parametrize("turn", range(4))
def test_none_is_left_by_a_parent_that_is_killed_while_it_starts_them(tmp_path: Path, turn: int) -> None:
    seconds = seconds_of(8000 + turn)
    command = [sys.executable, "-c", _PARENT, str(tmp_path), "1000", seconds, str(int(signal.SIGINT)), ""]
    with subprocess.Popen(command, cwd=ROOT) as parent:
        until(lambda: len(running(seconds)) > 4 + 3 * turn, what="it has begun", every_s=0.001)
        parent.kill()
    until(lambda: not running(seconds), what="the programs are gone")


async def test_whoever_is_tied_to_a_parent_that_is_gone_begins_nothing(tmp_path: Path) -> None:
    """As when the parent dies before the tie is made: the process then has another one."""
    mark = tmp_path / "mark"
    command = tethered(("/usr/bin/touch", str(mark)), signal_number=signal.SIGTERM)
    command[command.index(str(os.getpid()))] = "1"
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 127
    assert not mark.exists()


async def test_no_code_of_the_parent_runs_between_fork_and_exec(tmp_path: Path) -> None:
    """Hooks of forks are called exactly where such code would run."""
    forks: list[str] = []
    os.register_at_fork(before=lambda: forks.append("before"), after_in_child=lambda: forks.append("in the child"))
    async with calls_under_way():
        assert await said_by(part_of(tmp_path, "/bin/echo", "done")) == (0, "done\n")
    assert forks == []


async def test_a_program_inherits_nothing_of_the_interpreter(tmp_path: Path) -> None:
    _, status = await said_by(part_of(tmp_path, "/bin/cat", "/proc/self/status"))
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    ignored = int(fields["SigIgn"], 16)
    # Whoever runs the tests may have others ignored, and parts inherit that.
    set_by_python = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
    assert [one.name for one in set_by_python if ignored >> (one - 1) & 1] == []
    _, opened = await said_by(part_of(tmp_path / "files", "/bin/ls", "/proc/self/fd"))
    assert opened.split() == ["0", "1", "2", "3"], "the last one is of ls itself"
    given = replace(part_of(tmp_path / "environment", "/usr/bin/env"), env={"A": "b=c", "LANG": "C"})
    assert sorted((await said_by(given))[1].splitlines()) == ["A=b=c", "LANG=C"]


@_root
async def test_a_program_runs_as_the_user_that_it_is_given(tmp_path: Path) -> None:
    _, status = await said_by(part_of(tmp_path, "/bin/cat", "/proc/self/status", uid=NOBODY))
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == fields["Gid"].split() == [str(NOBODY)] * 4
    assert fields["Groups"].split() == []


async def test_a_program_that_is_missing_or_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        PartFailedError, match=r"part cannot start: /no/such/program is missing; run `make setup` again"
    ):
        await Process.start(part_of(tmp_path, "/no/such/program"), clock=SystemClock())
    plain = tmp_path / "plain"
    plain.write_text("no program")
    code, said = await said_by(part_of(tmp_path, str(plain)))
    assert (code, said) == (127, f"{plain} cannot be run: Permission denied\n")
