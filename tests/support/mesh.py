"""The whole mesh, started as `make run` does, on free ports and in a folder of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import orjson
import pytest

from services.common.clock import SystemClock
from services.supervisor.certificates import LocalAuthority
from services.supervisor.settings import ROOT
from tests.support.waiting import until

START_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 60.0
"""When waiting ends. How long a stop may take is a promise, which test_start_and_stop.py looks at."""


class Sample(TypedDict):
    """A held-out digit: an instance, the digit that it shows, what each version answers."""

    instance: dict[str, list[float]]
    label: int
    expected: dict[str, int]


@dataclass(frozen=True)
class Mesh:
    """A running mesh."""

    data_dir: Path
    process: "subprocess.Popen[bytes]"
    output: Path
    key: str = ""
    """The operator's key, where the mesh asks callers for one."""

    @property
    def outside(self) -> Path:
        """The folder of the authority that it believes of others' servers, and of the tokens that it shows them."""
        return outside_of(self.data_dir)

    @property
    def samples_dir(self) -> Path:
        """The folder of samples of training data that its monitor reads; made by whoever puts one there."""
        return samples_of(self.data_dir)

    @property
    def gateway(self) -> str:
        """host:port of the one address for clients."""
        return f"127.0.0.1:{self.port('gateway')}"

    @property
    def samples(self) -> Sequence[Sample]:
        """Digits to ask about."""
        samples: list[Sample] = orjson.loads((ROOT / ".build/digits/samples.json").read_bytes())
        return samples

    def port(self, purpose: str) -> int:
        """The port for a purpose, by its name in MeshPorts."""
        return int(self._state()["ports"][purpose])

    def pids(self) -> dict[str, int]:
        """The process of each part that is ready now."""
        return {name: int(pid) for name, pid in self._state()["pids"].items()}

    def complete(self) -> bool:
        """Whether all is up and digits answers."""
        return (self.data_dir / "mesh.json").exists() and bool(self._state()["complete"])

    def kill(self, part: str) -> int:
        """Kills a part without warning; which process it was."""
        pid = self.pids()[part]
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextmanager
    def held_down(self, *parts: str) -> Iterator[None]:
        """Kills these parts without warning and keeps them down meanwhile. They start again afterwards, all at once."""
        folder = self.data_dir / "hold"
        folder.mkdir(exist_ok=True)
        for part in parts:
            (folder / part).touch()
        try:
            for part in parts:
                self.kill(part)
            until(lambda: not set(parts) & set(self.pids()), what=f"{', '.join(parts)} are down")
            yield
        finally:
            for part in parts:
                (folder / part).unlink()

    def _state(self) -> dict[str, dict[str, int]]:
        state: dict[str, dict[str, int]] = orjson.loads((self.data_dir / "mesh.json").read_bytes())
        return state


def outside_of(data_dir: Path) -> Path:
    """What `Mesh.outside` is of a mesh over `data_dir`."""
    return data_dir.with_name(data_dir.name + ".outside")


def samples_of(data_dir: Path) -> Path:
    """What `Mesh.samples_dir` is of a mesh over `data_dir`."""
    return data_dir.with_name(data_dir.name + ".samples")


def start_mesh(data_dir: Path, *, key: str = "", settings: Mapping[str, str] | None = None) -> Mesh:
    """Starts a mesh over `data_dir` and waits until it is complete. `key` is the operator's, for one that was started
    before: it is shown once. `settings`: further variables."""
    output = data_dir.with_name(data_dir.name + ".out")
    outside = outside_of(data_dir)
    authority = LocalAuthority(outside, now=SystemClock().now()).issue("nobody", hosts=()).authority
    told = {
        "INFERMESH_DATA_DIR": data_dir,
        "INFERMESH_EXTERNAL_CA": authority,
        "INFERMESH_EXTERNAL_CREDENTIALS": outside / "tokens",
        # Receivers of tests are on this machine.
        "INFERMESH_MONITOR_WEBHOOK_PRIVATE": "true",
        # Drift is judged from 1,000 sampled rows on, which the default rate takes a minute for.
        "INFERMESH_MONITOR_DRIFT_ROWS_PER_S": "500",
        "INFERMESH_MONITOR_SAMPLE_DIR": samples_of(data_dir),
    }
    with output.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.supervisor", "--free-ports"],
            cwd=ROOT,
            env={**os.environ, **{name: str(path) for name, path in told.items()}, **(settings or {})},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    mesh = Mesh(data_dir=data_dir, process=process, output=output, key=key)
    try:
        until(lambda: mesh.complete() or process.poll() is not None, within_s=START_TIMEOUT_S, what="the mesh is up")
        assert process.poll() is None, "it has ended"
    except AssertionError as error:
        process.kill()
        process.wait()
        pytest.fail(f"the mesh did not start: {error}: {output.read_text()}", pytrace=False)
    shown = re.search(r"^export INFERMESH_API_KEY=(\S+)$", output.read_text(), re.MULTILINE)
    return replace(mesh, key=shown[1]) if shown else mesh


def stop_mesh(mesh: Mesh) -> float:
    """Ctrl-C, then the seconds until it was down. Fails where that took too long."""
    began_s = time.monotonic()
    mesh.process.send_signal(signal.SIGINT)
    try:
        mesh.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        mesh.process.kill()
        mesh.process.wait()
        pytest.fail(f"the mesh did not stop within {STOP_TIMEOUT_S:.0f} s: {mesh.output.read_text()}", pytrace=False)
    return time.monotonic() - began_s
