"""What images start and what probes run, as they are: against a real Envoy and real listeners."""

import http.server
import importlib.util
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from services.common.grpc.tls import AUTHORITY, CERTIFICATE, PRIVATE_KEY
from services.supervisor.parts.envoy import write_bootstrap
from services.supervisor.ports import free_ports
from tests.support.certificates import certificates
from tests.support.dockerfiles import DOCKER
from tests.support.waiting import until

GATEWAY, PROBE = DOCKER / "gateway.py", DOCKER / "probe.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gateway_script", GATEWAY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bootstrap_is_that_of_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = write_bootstrap(tmp_path / "here", admin_port=8140, ads_address="127.0.0.1:8141", node_id="mesh-gateway-1")
    told = {"GATEWAY_NODE_ID": "mesh-gateway-1", "GATEWAY_ADMIN_PORT": "8140", "GATEWAY_KEEPER_PORT": "8141"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    _script().write_bootstrap(tmp_path / "bootstrap.yaml")
    assert (tmp_path / "bootstrap.yaml").read_text() == here.read_text()


def test_a_gateway_starts_and_is_drained(tmp_path: Path) -> None:
    admin_port, keeper_port = free_ports(2)
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_NODE_ID": "gateway-7",
        "GATEWAY_ADMIN_PORT": str(admin_port),
        "GATEWAY_KEEPER_PORT": str(keeper_port),
        "GATEWAY_CONFIG": str(tmp_path / "bootstrap.yaml"),
        "GATEWAY_DRAIN_S": "0",
        "TMPDIR": str(tmp_path),
    }
    with (tmp_path / "log").open("w") as log:
        envoy = subprocess.Popen([sys.executable, str(GATEWAY)], env=environment, stdout=log, stderr=log)
    try:
        admin = f"http://127.0.0.1:{admin_port}"
        info = until(lambda: httpx.get(f"{admin}/server_info").json(), what="Envoy's admin port answers")
        assert info["node"]["id"] == "gateway-7"
        assert info["command_line_options"]["concurrency"] == 1
        # It is the very process that was started, so signals reach it.
        assert Path(f"/proc/{envoy.pid}/exe").resolve().name.startswith("envoy")
        drain = [sys.executable, str(GATEWAY), "drain"]
        subprocess.run(drain, env=environment, timeout=30, check=True)
        envoy.send_signal(signal.SIGTERM)
        assert envoy.wait(timeout=20) == 0
        # A stop of one that is gone already fails, and is over.
        gone = subprocess.run(drain, env=environment, capture_output=True, timeout=30, check=False)
        assert gone.returncode != 0
    finally:
        envoy.kill()
        envoy.wait()


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Ready at one path alone."""
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()
        self.wfile.write(b'{"status":"as asked"}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nobody reads it."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Strangers are refused, which is what is tested."""


@contextmanager
def _listening(tls: Path | None = None) -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), _Answers)
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls / AUTHORITY))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tls / CERTIFICATE, tls / PRIVATE_KEY)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, name="answers")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _probe(*arguments: str, tls: Path | None = None) -> subprocess.CompletedProcess[str]:
    """As the chart runs it: without site-packages, without the user's folder."""
    environment = {"PATH": os.defpath, **({"TLS_DIR": str(tls)} if tls else {})}
    command = [sys.executable, "-I", "-S", str(PROBE), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_a_probe_says_whether_it_was_answered_with_ok() -> None:
    with _listening() as port:
        ready = _probe(str(port), "/ready")
        assert (ready.returncode, ready.stdout) == (0, '200 {"status":"as asked"}\n')
        assert _probe(str(port), "/health").returncode == 1
        assert _probe(str(port)).returncode == 0
    assert _probe(str(port)).returncode == 1
    gone = _probe(str(port), "/ready")
    assert gone.returncode == 1
    assert "refused" in gone.stdout


def test_a_probe_shows_the_pods_own_certificate(tmp_path: Path) -> None:
    own = certificates(tmp_path, "batcher", authority=tmp_path / "ca", hosts=("infermesh-batcher",))
    strange = certificates(tmp_path, "stranger", authority=tmp_path / "other")
    with _listening(tls=own) as port:
        assert _probe(str(port), "/ready", tls=own).returncode == 0
        assert _probe(str(port), "/ready", tls=strange).returncode == 1
        assert _probe(str(port), "/ready").returncode == 1
