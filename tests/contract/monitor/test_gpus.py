"""GPUs by NVML: what this machine says, and what a played library says through its C interface.

Where there is no GPU the real library is missing, and that is the first test. What a driver answers is a double in C
(`tests/support/native/nvml.c`), loaded in its place: all of the Python library above it is real.
"""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.monitor.adapters.nvml import NvmlGpus
from services.monitor.adapters.prometheus import PrometheusBoard
from services.monitor.domain.gpus import GpuUse, memory_percent, utilization_of, utilization_percent
from services.monitor.ports import ModelUse
from services.supervisor.settings import ROOT
from tests.support.played_gpus import nvml_double

GIB = 2**30
BUSY = GpuUse(0, "GPU-a", "NVIDIA H100", 87.0, 60 * GIB, 80 * GIB, frozenset({4001, 4002}))
DIVIDED = GpuUse(1, "GPU-b", "NVIDIA H100", None, 20 * GIB, 80 * GIB)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(nvml_double(tmp_path_factory.mktemp("nvml"))))


@pytest.fixture
def played(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    ctypes.c_int.in_dll(library, "played_calls_until_lost").value = -1
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    yield library
    assert ctypes.c_int.in_dll(library, "played_sessions").value == 0, "whoever begins with the driver ends"


def driver_is_here() -> bool:
    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return False
    return True


def test_this_machine_says_what_it_has() -> None:
    probe = NvmlGpus()
    found = probe.sample()
    assert bool(found) == driver_is_here()
    for gpu in found:
        assert gpu.uuid
        assert gpu.memory_total_bytes is None or 0 <= (gpu.memory_used_bytes or 0) <= gpu.memory_total_bytes
        assert gpu.utilization_percent is None or 0 <= gpu.utilization_percent <= 100
    probe.close()


def test_every_gpu_is_read_and_what_one_does_not_say_is_missing(played: ctypes.CDLL) -> None:
    probe = NvmlGpus()
    assert list(probe.sample()) == [BUSY, DIVIDED]
    assert list(probe.sample()) == [BUSY, DIVIDED]
    probe.close()


@pytest.mark.parametrize("calls", range(8))
def test_a_driver_that_goes_away_has_no_gpus_and_is_begun_with_anew(played: ctypes.CDLL, calls: int) -> None:
    probe = NvmlGpus()
    assert len(probe.sample()) == 2
    left = ctypes.c_int.in_dll(played, "played_calls_until_lost")
    left.value = calls
    assert probe.sample() == ()
    left.value = -1
    assert list(probe.sample()) == [BUSY, DIVIDED]
    probe.close()


_TELL = """
import sys
from pathlib import Path
from services.monitor.adapters.nvml import NvmlGpus
probe = NvmlGpus(Path(sys.argv[1]))
print([(gpu.name, gpu.utilization_percent, sorted(gpu.pids)) for gpu in probe.sample()])
probe.close()
"""


def told_by(library: Path) -> str:
    """What a process of its own reads by the library at a path: one process loads but one of a name."""
    done = subprocess.run(
        [sys.executable, "-c", _TELL, str(library)], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_library_that_lies_elsewhere_is_found_by_its_path(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.write_text("17\n23\n42\n")
    library = nvml_double(tmp_path, pids=pids)
    assert "('NVIDIA H100', 87.0, [17, 23, 42]), ('NVIDIA H100', None, [])]" in told_by(library)


def test_a_library_that_is_not_there_is_no_gpu_and_no_failure(tmp_path: Path) -> None:
    assert told_by(tmp_path / "libnvidia-ml.so.1") == "[]\n"


def test_a_host_uses_what_its_gpus_say_and_none_is_not_nothing() -> None:
    assert utilization_percent([BUSY, DIVIDED]) == 87
    assert memory_percent([BUSY, DIVIDED]) == 50
    assert utilization_percent([DIVIDED]) is None
    assert utilization_percent([]) is None
    assert memory_percent([]) is None
    assert utilization_of({4002, 7}, [BUSY, DIVIDED]) == 87
    assert utilization_of({7}, [BUSY, DIVIDED]) is None


def test_prometheus_sees_each_gpu_and_the_versions_on_them() -> None:
    registry = CollectorRegistry()
    board = PrometheusBoard(registry, host="local")
    board.gpus([BUSY, DIVIDED])
    board.models([ModelUse("digits", "v1.0.0", 0.5, 1000, frozenset({4001}), 87.0), ModelUse("other", "v1.0.0", 0, 1)])
    shown = generate_latest(registry).decode()
    where = 'gpu="{}",host="local",name="NVIDIA H100",uuid="{}"'
    assert f"host_gpu_utilization{{{where.format(0, 'GPU-a')}}} 87.0" in shown
    assert "host_gpu_utilization{" + where.format(1, "GPU-b") not in shown
    assert f"host_gpu_memory_used_bytes{{{where.format(1, 'GPU-b')}}} 2.147483648e+10" in shown
    assert 'model_gpu_utilization{deployment="",model="digits",pod="local",version="v1.0.0"} 87.0' in shown
    assert 'model_gpu_utilization{deployment="",model="other"' not in shown
