"""The supervisor over real processes: order, restarts, giving up, and failures in one sentence."""

import asyncio
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.supervisor.domain.restarts import DELAYS_S, PATIENT_DELAY_S
from services.supervisor.engine import Died, Event, Held, Ready, Stopped, Supervisor
from services.supervisor.holds import HoldFiles
from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import http_ready
from services.supervisor.ports import MeshPorts
from services.supervisor.process import PartFailedError
from services.supervisor.state import StateFile, forget, sole_owner
from tests.support.parts import free_port
from tests.support.waiting import eventually

_SERVER = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1")


class Record:
    """What the supervisor told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def saw(self, event: Event) -> None:
        """Keeps it."""
        self.events.append(event)

    def names(self, kind: type[Event]) -> list[str]:
        """The parts of all events of one kind, in order."""
        return [event.part.name for event in self.events if isinstance(event, kind)]

    def pids(self, name: str) -> list[int]:
        """The processes that a part had."""
        return [event.pid for event in self.events if isinstance(event, Ready) and event.part.name == name]


class HastyClock(SystemClock):
    """Real, but for the waits, a hundredth of which is enough for a test."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps a hundredth."""
        await super().sleep(seconds / 100)


def web_part(name: str, folder: Path, *, port: int | None = None) -> Part:
    port = port or free_port()
    return Part(
        name=name,
        argv=(*_SERVER, str(port)),
        env={"PATH": os.defpath},
        cwd=folder,
        ports={name: port},
        ready=http_ready("127.0.0.1", port, "/"),
        log_path=folder / f"{name}.log",
    )


def dying_part(name: str, folder: Path) -> Part:
    """Never becomes ready, and says why."""
    return Part(
        name=name,
        argv=(sys.executable, "-c", "raise SystemExit('the disk is full')"),
        env={"PATH": os.defpath},
        cwd=folder,
        ready=http_ready("127.0.0.1", free_port(), "/"),
        log_path=folder / f"{name}.log",
    )


async def test_a_stage_starts_when_the_one_before_is_ready_and_stops_before_it(tmp_path: Path) -> None:
    record = Record()
    stages = [[web_part("first", tmp_path)], [web_part("second", tmp_path), web_part("third", tmp_path)]]
    supervisor = Supervisor(stages, clock=SystemClock(), reporters=(record,))
    await supervisor.start()
    await supervisor.stop()
    assert record.names(Ready)[0] == "first"
    assert record.names(Stopped)[-1] == "first"
    assert sorted(record.names(Stopped)) == ["first", "second", "third"]


async def test_a_killed_part_is_back_as_another_process(tmp_path: Path) -> None:
    record = Record()
    supervisor = Supervisor([[web_part("web", tmp_path)]], clock=SystemClock(), reporters=(record,))
    await supervisor.start()
    try:
        os.kill(record.pids("web")[0], signal.SIGKILL)
        await eventually(lambda: len(record.pids("web")) == 2, timeout_s=30)
        died = [event for event in record.events if isinstance(event, Died)]
        assert [event.exit_code for event in died] == [-signal.SIGKILL]
    finally:
        await supervisor.stop()


async def test_a_part_that_is_not_vital_may_keep_dying_and_the_mesh_lives_on(tmp_path: Path) -> None:
    record = Record()
    part = replace(web_part("web", tmp_path), vital=False)
    supervisor = Supervisor([[part]], clock=HastyClock(), reporters=(record,))
    await supervisor.start()
    try:
        watching = asyncio.create_task(supervisor.watch(), name="watch")
        for life in range(1, 9):
            await eventually(lambda: len(record.pids("web")) == life, timeout_s=30)  # noqa: B023 - awaited within
            os.kill(record.pids("web")[-1], signal.SIGKILL)
        await eventually(lambda: len(record.pids("web")) == 9, timeout_s=30)
        assert not watching.done()
        delays_s = [event.delay_s for event in record.events if isinstance(event, Died)]
        assert delays_s == [*DELAYS_S, *[PATIENT_DELAY_S] * 3]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        await supervisor.stop()


async def test_a_held_part_stays_down_until_it_is_let_go(tmp_path: Path) -> None:
    record, hold = Record(), tmp_path / "hold" / "web"
    hold.parent.mkdir()
    clock = SystemClock()
    supervisor = Supervisor(
        [[web_part("web", tmp_path), web_part("other", tmp_path)]],
        clock=clock,
        reporters=(record,),
        holds=HoldFiles(tmp_path, clock=clock),
    )
    await supervisor.start()
    try:
        hold.touch()
        for name in ("web", "other"):
            os.kill(record.pids(name)[0], signal.SIGKILL)
        await eventually(lambda: record.names(Held) == ["web"] and len(record.pids("other")) == 2)
        assert len(record.pids("web")) == 1
        hold.unlink()
        await eventually(lambda: len(record.pids("web")) == 2)
        # Let go, it is started again as always.
        os.kill(record.pids("web")[-1], signal.SIGKILL)
        await eventually(lambda: len(record.pids("web")) == 3)
        assert record.names(Held) == ["web"]
    finally:
        await supervisor.stop()


async def test_a_mesh_stops_while_a_part_is_held(tmp_path: Path) -> None:
    record, hold = Record(), tmp_path / "hold" / "web"
    hold.parent.mkdir()
    hold.touch()
    clock = SystemClock()
    supervisor = Supervisor(
        [[web_part("web", tmp_path)]], clock=clock, reporters=(record,), holds=HoldFiles(tmp_path, clock=clock)
    )
    await supervisor.start()
    os.kill(record.pids("web")[0], signal.SIGKILL)
    await eventually(lambda: record.names(Held) == ["web"])
    await asyncio.wait_for(supervisor.stop(), timeout=30)


async def test_a_part_that_cannot_be_started_again_just_now_is_tried_until_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def saw(self, event: Event) -> None:
            """Cannot write it down."""
            raise OSError(f"no space left for {event}")

    kill_group, killed = os.killpg, list[int]()

    def noted(group: int, number: int) -> None:
        killed.append(group)
        kill_group(group, number)

    record = Record()
    part = replace(web_part("web", tmp_path), vital=False)
    supervisor = Supervisor([[part]], clock=HastyClock(), reporters=(FullDisk(), record))
    await supervisor.start()
    try:
        monkeypatch.setattr(os, "killpg", noted)
        part.log_path.unlink()
        part.log_path.mkdir()  # nobody can write a log there
        os.kill(record.pids("web")[0], signal.SIGKILL)
        await eventually(lambda: len(record.names(Died)) > 3, timeout_s=30)
        assert killed == record.pids("web"), "once: later its number may be another's"
        part.log_path.rmdir()
        await eventually(lambda: len(record.pids("web")) == 2, timeout_s=30)
    finally:
        await supervisor.stop()


async def test_a_part_that_keeps_dying_ends_the_mesh_with_its_last_words(tmp_path: Path) -> None:
    record = Record()
    supervisor = Supervisor([[web_part("web", tmp_path)]], clock=SystemClock(), reporters=(record,))
    await supervisor.start()
    try:
        cancelled = asyncio.create_task(supervisor.watch(), name="cancelled watch")
        await asyncio.wait({cancelled}, timeout=0.05)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        watching = asyncio.create_task(supervisor.watch(), name="watch")
        for life in range(1, 7):
            await eventually(lambda: len(record.pids("web")) == life, timeout_s=30)  # noqa: B023 - awaited within
            os.kill(record.pids("web")[-1], signal.SIGKILL)
        with pytest.raises(PartFailedError, match=r"web died 6 times within a minute.*its log is .*web\.log"):
            await asyncio.wait_for(watching, timeout=30)
        with pytest.raises(PartFailedError, match="web died 6 times"):  # whoever asks later is told as well
            await asyncio.wait_for(supervisor.watch(), timeout=30)
    finally:
        await supervisor.stop()


async def test_a_part_that_cannot_start_stops_what_had_started(tmp_path: Path) -> None:
    record = Record()
    stages = [[web_part("web", tmp_path)], [dying_part("broken", tmp_path)]]
    supervisor = Supervisor(stages, clock=SystemClock(), reporters=(record,))
    with pytest.raises(PartFailedError, match=r"broken died while starting \(exit code 1\): the disk is full"):
        await supervisor.start()
    assert record.names(Stopped) == ["broken", "web"]


async def test_a_taken_port_is_one_sentence_that_names_the_port_and_the_variable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        supervisor = Supervisor(
            [[web_part("registry", tmp_path, port=port)]], clock=SystemClock(), reporters=(Record(),)
        )
        with pytest.raises(PartFailedError, match=rf"port {port}, which registry needs, is taken.*INFERMESH_PORT_REG"):
            await supervisor.start()


async def test_a_missing_program_is_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    part = Part(
        name="gone",
        argv=(str(tmp_path / "nothing"),),
        cwd=tmp_path,
        ready=http_ready("127.0.0.1", free_port(), "/"),
        log_path=tmp_path / "gone.log",
    )
    with pytest.raises(PartFailedError, match=r"gone cannot start: .*nothing is missing; run `make setup` again"):
        await Supervisor([[part]], clock=SystemClock(), reporters=(Record(),)).start()


def test_a_data_folder_has_one_owner(tmp_path: Path) -> None:
    with sole_owner(tmp_path), pytest.raises(SystemExit, match="a mesh already runs on"), sole_owner(tmp_path):
        pytest.fail("two meshes own one folder")


def test_a_running_mesh_is_not_forgotten(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with sole_owner(data_dir), pytest.raises(SystemExit, match="a mesh already runs on"):
        forget(data_dir)
    assert data_dir.exists()
    forget(data_dir)
    assert not data_dir.exists()
    forget(data_dir)


async def test_the_state_file_follows_the_processes(tmp_path: Path) -> None:
    state = StateFile(tmp_path, MeshPorts())
    record = Record()
    supervisor = Supervisor([[web_part("web", tmp_path)]], clock=SystemClock(), reporters=(state, record))
    await supervisor.start()
    assert f'"web": {record.pids("web")[0]}' in (tmp_path / "mesh.json").read_text()
    assert '"complete": false' in (tmp_path / "mesh.json").read_text()
    state.complete()
    assert '"complete": true' in (tmp_path / "mesh.json").read_text()
    await supervisor.stop()
    assert '"pids": {}' in (tmp_path / "mesh.json").read_text()
    state.remove()
    assert not (tmp_path / "mesh.json").exists()
