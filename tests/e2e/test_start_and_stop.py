"""A mesh of its own: Ctrl-C leaves nothing behind, and what was registered is there the next time."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from services.supervisor.parts.triton import shared_memory_prefix
from services.supervisor.ports import MeshPorts
from services.supervisor.settings import ROOT
from tests.e2e.driving import bearer
from tests.support.mesh import Mesh, start_mesh, stop_mesh

STOP_S = 10.0


def _processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process whose environment, command or working folder names the data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            said = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if process.pid != os.getpid() and any(str(data_dir) in word for word in said):
            found.append(process)
    return found


def _temporary_of(processes: list[psutil.Process], data_dir: Path) -> set[Path]:
    """What they have mapped or open in shared memory and temporary folders. Others on this machine have theirs."""
    held: set[Path] = set()
    for process in processes:
        folder = Path("/proc") / str(process.pid)
        try:
            maps = (folder / "maps").read_text().splitlines()
            opened = [str(descriptor.readlink()) for descriptor in (folder / "fd").iterdir()]
        except OSError:
            continue
        names = [*(line.split(maxsplit=5)[5] for line in maps if line.count("/")), *opened]
        held |= {Path(name) for name in names if name.startswith(("/dev/shm/", "/tmp/"))}
    # The clone itself may lie in a temporary folder: its libraries are no left-overs.
    known = (data_dir.parent, ROOT)
    return {path for path in held if path.exists() and not any(folder in path.parents for folder in known)}


def _names() -> set[Path]:
    """All that lies in shared memory and in the machine's folder of temporary files."""
    return {path for folder in ("/dev/shm", "/tmp") for path in Path(folder).iterdir()}


def _called_after(mesh: Mesh, processes: list[psutil.Process]) -> Callable[[Path], bool]:
    """Whether something is called after a process, a port or the model server of the mesh, as sockets, locks and
    regions are. What others on this machine make meanwhile is called after theirs."""
    numbers = {str(process.pid) for process in processes} | {str(mesh.port(name)) for name in MeshPorts.model_fields}
    prefix = shared_memory_prefix(mesh.data_dir / "triton")

    def check(path: Path) -> bool:
        return path.name.startswith(prefix) or bool(numbers & set(re.findall(r"(?<![^\W_])\d+(?![^\W_])", path.name)))

    return check


def _label(mesh: Mesh) -> str:
    answer = httpx.post(
        f"http://{mesh.gateway}/v1/models/digits/predict",
        json={"instances": [mesh.samples[0]["instance"]]},
        headers=bearer(mesh.key),
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["predictions"][0]["class"])


@pytest.mark.timeout(300)
def test_stopping_leaves_nothing_and_starting_again_keeps_everything(tmp_path: Path) -> None:
    before = _names()
    mesh = start_mesh(tmp_path / "data")
    try:
        first = _label(mesh)
        processes = _processes_of(mesh.data_dir)
        assert len(processes) >= 10
        temporary = _temporary_of(processes, mesh.data_dir)
        assert any(path.is_relative_to("/dev/shm") for path in temporary), "Triton and PostgreSQL share memory"
        assert not {path for path in temporary if path.is_relative_to("/tmp")}, "each has a folder of its own for these"
        of_mesh = _called_after(mesh, processes)
        assert any(map(of_mesh, _names() - before)), "Triton's regions are called after its folder"
    finally:
        took_s = stop_mesh(mesh)
    assert took_s < STOP_S
    assert mesh.process.returncode == 0, mesh.output.read_text()
    assert _processes_of(mesh.data_dir) == []
    assert {path for path in temporary if path.exists()} == set()
    assert set(filter(of_mesh, _names() - before)) == set()
    assert not (mesh.data_dir / "mesh.json").exists()

    again = start_mesh(mesh.data_dir, key=mesh.key)
    try:
        assert _label(again) == first == str(again.samples[0]["expected"]["v1.0.0"])
    finally:
        stop_mesh(again)


def test_the_table_and_the_lines_to_try_are_printed(mesh: Mesh) -> None:
    said = mesh.output.read_text()
    stores, services = ("postgres", "redis", "redis-cache"), ("registry", "router", "deployer", "batch", "monitor")
    for part in (*stores, "triton", *services, "gateway"):
        assert f"{part} " in said
    for line in ("curl -s", "examples.clients.typed_grpc", "examples.clients.open_inference", "buf curl", "/console\n"):
        assert line in said
