"""What a person sees of a mesh, in terminals of every width."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from services.supervisor.console import ConsoleReporter
from services.supervisor.engine import Ready
from services.supervisor.parts.part import Part

DATA = Path("/a/folder/that/is/deep/down/in/somebody's/home/infermesh/.data")
PIDS = {"postgres": 4_194_303, "redis": 7, "triton": 25_301, "batcher": 25_401, "batcher-1": 25_402, "gateway": 25_555}


async def _ready() -> bool:
    return True


def _shown(width: int) -> str:
    out = io.StringIO()
    reporter = ConsoleReporter(Console(file=out, width=width))
    for place, (name, pid) in enumerate(PIDS.items()):
        part = Part(
            name=name,
            argv=("/bin/true",),
            cwd=DATA,
            ports={name: 48_000 + place},
            ready=_ready,
            log_path=DATA / "logs" / f"{name}.log",
        )
        reporter.saw(Ready(part, pid, 0.5))
    out.seek(0)
    out.truncate()
    reporter.table()
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_names_addresses_and_pids_are_never_cut_and_stand_in_one_line(width: int) -> None:
    shown = _shown(width)
    assert "…" not in shown
    rows = [line.split() for line in shown.splitlines()]
    for place, (name, pid) in enumerate(PIDS.items()):
        (row,) = [row for row in rows if row and row[0] == name]
        assert row[-2:] == [f"127.0.0.1:{48_000 + place}", str(pid)]


@pytest.mark.parametrize("width", [20, 80])
def test_the_folder_of_the_logs_is_said_once_and_whole(width: int) -> None:
    assert _shown(width).count(str(DATA / "logs")) == 1


def test_a_row_fits_the_usual_terminal() -> None:
    table = _shown(80).splitlines()[3:]
    assert len(table) == 1 + len(PIDS)
    assert max(len(line.rstrip()) for line in table) <= 80


def test_every_batcher_is_said_to_be_one() -> None:
    assert _shown(120).count("predictions, in batches") == 2
