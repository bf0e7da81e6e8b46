"""A mesh of its own: Ctrl-C leaves nothing behind, and what was registered is there the next time."""

import os
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.mesh import Mesh, start_mesh, stop_mesh

STOP_S = 10.0


def _processes_of(data_dir: Path) -> list[str]:
    """Every process whose environment, command or working folder names the data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            said = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if process.pid != os.getpid() and any(str(data_dir) in word for word in said):
            found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def _shared_memory() -> set[Path]:
    return set(Path("/dev/shm").iterdir())


def _label(mesh: Mesh) -> str:
    answer = httpx.post(
        f"http://{mesh.gateway}/v1/models/digits/predict",
        json={"instances": [mesh.samples[0]["instance"]]},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["predictions"][0]["class"])


@pytest.mark.timeout(300)
def test_stopping_leaves_nothing_and_starting_again_keeps_everything(tmp_path: Path) -> None:
    before, temporary = _shared_memory(), set(Path("/tmp").iterdir())
    mesh = start_mesh(tmp_path / "data")
    first = _label(mesh)
    assert len(_processes_of(mesh.data_dir)) >= 10
    took_s = stop_mesh(mesh)
    assert took_s < STOP_S
    assert mesh.process.returncode == 0, mesh.output.read_text()
    assert _processes_of(mesh.data_dir) == []
    assert _shared_memory() - before == set()
    assert {path for path in set(Path("/tmp").iterdir()) - temporary if "pytest" not in path.name} == set()
    assert not (mesh.data_dir / "mesh.json").exists()

    again = start_mesh(mesh.data_dir)
    try:
        assert _label(again) == first == str(again.samples[0]["expected"]["v1.0.0"])
    finally:
        stop_mesh(again)


def test_the_table_and_the_lines_to_try_are_printed(mesh: Mesh) -> None:
    said = mesh.output.read_text()
    for part in ("postgres", "redis", "triton", "registry", "router", "deployer", "batcher", "batch", "monitor"):
        assert f"{part} " in said
    for line in ("curl -s", "examples.clients.typed_grpc", "examples.clients.open_inference", "buf curl"):
        assert line in said
