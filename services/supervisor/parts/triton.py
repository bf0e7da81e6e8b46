"""NVIDIA Triton out of the `nvidia-pytriton` wheel, in an environment of its own (`.venv-serving`).

The wheel has the python backend alone, and that backend starts one stub process for each model instance with the Python
whose `bin` is first on PATH. Models are loaded by request only (explicit control); batching is left to the batcher.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import http_ready

_PYTHON_FACTS = """
import json, sys, sysconfig, importlib.util
package = importlib.util.find_spec("pytriton")
print(json.dumps([
    f"{sys.version_info.major}.{sys.version_info.minor}",
    package.submodule_search_locations[0] if package else "",
    sysconfig.get_config_var("LIBDIR") or "",
]))
"""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the python backend keeps its regions, by Linux's own convention
_STOP_TIMEOUT_S = 8.0


def triton_part(
    *,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    repository: Path,
    serving_python: Path,
    work_dir: Path,
    log_path: Path,
    options: Sequence[str] = (),
) -> Part:
    """Triton on loopback over the model repository `repository`, which is made if missing and need not hold models.

    `serving_python` is the interpreter that models run in; `work_dir` gets the backend folder and temporary files;
    `options` are further flags of tritonserver. Ready means that the server answers, whatever models it has.
    """
    version, package, library_dir = _facts(serving_python)
    repository.mkdir(parents=True, exist_ok=True)
    temporary = work_dir / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    prefix = shared_memory_prefix(work_dir)
    clean_shared_memory(prefix)
    backends = _backends(package, version, work_dir / "backends")
    wheel_libraries = package.parent / "nvidia_pytriton.libs"
    return Part(
        name="triton",
        argv=(
            str(package / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            "--model-control-mode=explicit",
            f"--backend-directory={backends}",
            *(f"--{kind}-port={port}" for kind, port in (("http", http_port), ("grpc", grpc_port))),
            f"--metrics-port={metrics_port}",
            *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            # Loads are few and wait for a Python start; two at a time leave cores to the models that serve.
            "--model-load-thread-count=2",
            "--exit-timeout-secs=3",
            "--strict-readiness=false",
            # Packages state all of their configuration. To complete one, the python backend starts the model's process
            # a first time and waits a second for it to go.
            "--disable-auto-complete-config",
            *options,
        ),
        env={
            "PATH": f"{serving_python.parent}:{os.defpath}",
            "LD_LIBRARY_PATH": f"{wheel_libraries}:{library_dir}",
            "LANG": "C.UTF-8",
            "TMPDIR": str(temporary),
            "HOME": str(temporary),
            "OMP_NUM_THREADS": "1",
        },
        cwd=work_dir,
        ports={"triton_http": http_port, "triton_grpc": grpc_port, "triton_metrics": metrics_port},
        ready=http_ready("127.0.0.1", http_port, "/v2/health/live"),
        ready_timeout_s=30,
        stop_timeout_s=_STOP_TIMEOUT_S,
        log_path=log_path,
        after_stop=lambda: clean_shared_memory(prefix),
    )


def tracing_options(otlp_url: str) -> Sequence[str]:
    """Flags that have Triton send spans of requests that come with a W3C trace context, and of no others: rate 0."""
    told = ("mode=opentelemetry", f"opentelemetry,url={otlp_url}", "level=TIMESTAMPS", "rate=0")
    return [f"--trace-config={one}" for one in told]


def shared_memory_prefix(work_dir: Path) -> str:
    """The name that all shared memory of the server over `work_dir` begins with; no other server's does."""
    return f"infermesh-{hashlib.sha256(str(work_dir.absolute()).encode()).hexdigest()[:12]}-"


def clean_shared_memory(prefix: str) -> None:
    """Removes what a killed server left in shared memory. Only for a prefix whose server is down."""
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _facts(serving_python: Path) -> tuple[str, Path, str]:
    """The Python's version, pytriton's folder and the folder of libpython."""
    try:
        run = subprocess.run(
            [str(serving_python), "-c", _PYTHON_FACTS], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{serving_python} cannot be run ({error}); run `make setup` again") from error
    version, package, library_dir = json.loads(run.stdout)
    if not package:
        raise SystemExit(f"nvidia-pytriton is not installed for {serving_python}; run `make setup` again")
    return version, Path(package), library_dir


def _backends(package: Path, version: str, folder: Path) -> Path:
    """A backend folder with the stub of the models' Python. Links, so that libraries are found beside their targets."""
    server = package / "tritonserver"
    wanted = {
        "libtriton_python.so": server / "backends" / "python" / "libtriton_python.so",
        "triton_python_backend_utils.py": server / "backends" / "python" / "triton_python_backend_utils.py",
        "triton_python_backend_stub": server / "python_backend_stubs" / version / "triton_python_backend_stub",
    }
    python = folder / "python"
    python.mkdir(parents=True, exist_ok=True)
    for name, target in wanted.items():
        if not target.exists():
            raise SystemExit(f"{target} is missing from nvidia-pytriton; run `make setup` again")
        link = python / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return folder
